"""The cache of environments, and the composition of one."""

import hashlib
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from tools.sides.environments.layers import PackageLayer, ensure_layer
from tools.sides.environments.pins import Pins, pins_of

CACHE_VARIABLE = "GOLDENTRACE_CACHE"

_DIGEST_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """All packages that one release needs besides torch.

    Attributes:
        python: the interpreter it was built for.
        tree: directory that holds the release's package.
        layers: directories that hold its dependencies, first on ``sys.path`` first.
        note: the deviation from the pinned requirements; empty in the usual case.
    """

    python: Path
    tree: Path
    layers: tuple[Path, ...]
    note: str


def cache_folder() -> Path:
    """Return the directory of all environments: below ``GOLDENTRACE_CACHE`` where that is set."""
    named = os.environ.get(CACHE_VARIABLE, "")
    base = Path(named) if named else user_cache_path("goldentrace", appauthor=False)
    return base.absolute() / "sglang"


def environment_for(release: str) -> Environment:
    """Return the environment of a published release; missing parts are downloaded.

    Raises:
        ToolError: it cannot be downloaded, or the cache cannot be written.
    """
    wheel = PackageLayer(
        path=cache_folder() / f"sglang-{release}-{_platform_tag()}",
        requirements=(f"sglang=={release}",),
        subject=f"sglang {release}",
    )
    tree = ensure_layer(wheel)
    layers, note = pinned_layers(release)
    return Environment(python=Path(sys.executable), tree=tree, layers=layers, note=note)


def pinned_layers(release: str) -> tuple[tuple[Path, ...], str]:
    """Return the dependencies of a release, downloaded if missing, and a note on deviations.

    Raises:
        ToolError: they cannot be downloaded, or the cache cannot be written.
    """
    pins: Pins = pins_of(release)
    layers = [
        PackageLayer(
            path=cache_folder() / f"{file.stem}-{_platform_tag()}-{_digest(file)}",
            requirements=("-r", str(file)),
            subject=f"sglang {release} (requirements {file.stem})",
        )
        for file in pins.lists
    ]
    return tuple(ensure_layer(layer) for layer in layers), pins.note


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGEST_CHARACTERS]


def _platform_tag() -> str:
    """Return ``cp311-linux-x86_64``: compiled modules serve one interpreter on one platform."""
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    return f"{sys.implementation.name[:1]}p{version}-{sysconfig.get_platform()}"
