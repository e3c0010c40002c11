"""The cache of environments, the pinned requirements of releases, and the composition of one."""

import hashlib
import os
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.version import InvalidVersion, Version
from platformdirs import user_cache_path

from tools.errors import ToolError
from tools.sides.environments.layers import PackageLayer, ensure_layer
from tools.workers.launch import WorkerLauncher

CACHE_VARIABLE = "GOLDENTRACE_CACHE"

_DIGEST_CHARACTERS = 12

_FOLDER = (
    Path(__file__).resolve().parents[3] / "traces" / "targets" / "sglang" / "data" / "requirements"
)
_RELEASES = "releases.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """The requirement lists of one release.

    Attributes:
        lists: requirement files, the one that goes first on ``sys.path`` first.
        note: why they are those of another release; empty when they are its own.
    """

    lists: tuple[Path, ...]
    note: str


def parse_release(text: str) -> str:
    """Return a version in its normal form.

    Raises:
        ToolError: it is no version.
    """
    try:
        return str(Version(text))
    except InvalidVersion as error:
        expected = "pypi:VERSION such as pypi:0.5.12"
        raise ToolError("side", "must name a version", expected=expected, got=repr(text)) from error


def newest_release(folder: Path = _FOLDER) -> str:
    """Return the newest release that has lists of its own."""
    return str(max(_releases(folder)))


def pins_of(release: str, *, folder: Path = _FOLDER) -> Pins:
    """Return the lists of a release; of the nearest older one that has some, where it has none.

    A release older than all of them gets the oldest lists.
    """
    releases = _releases(folder)
    wanted = Version(release)
    older = [known for known in releases if known <= wanted]
    used = max(older) if older else min(releases)
    note = "" if used == wanted else f"no pinned requirements for {release}: those of {used} used"
    return Pins(lists=tuple(folder / f"{name}.txt" for name in releases[used]), note=note)


@cache
def _releases(folder: Path) -> dict[Version, tuple[str, ...]]:
    listed = tomllib.loads((folder / _RELEASES).read_text(encoding="utf-8"))
    return {Version(release): tuple(names) for release, names in listed.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSide:
    """A side whose package can be imported.

    Attributes:
        root: directory that holds the side's package.
        python: the interpreter that runs it.
        layers: directories with what the package depends on, first on ``sys.path`` first; empty
            when the interpreter has everything.
        note: deviations from the pinned requirements; empty in the usual case.
    """

    root: Path
    python: Path = Path(sys.executable)
    layers: tuple[Path, ...] = ()
    note: str = ""

    def launcher(self, worker_class: str, *, isolated: bool) -> WorkerLauncher:
        """Return a launcher of workers that import this side's package."""
        return WorkerLauncher(
            worker_class=worker_class,
            root=self.root,
            python=self.python,
            layers=self.layers,
            is_isolated=isolated,
            compiled=compiled_folder(),
        )


def cache_folder() -> Path:
    """Return the directory of all environments: below ``GOLDENTRACE_CACHE`` where that is set."""
    return _base_folder() / "sglang"


def recordings_folder() -> Path:
    """Return the directory of all kept runs, beside that of the environments."""
    return _base_folder() / "recordings"


def compiled_folder() -> Path:
    """Return the directory of compiled modules."""
    return _base_folder() / "compiled"


def scenario_rows_folder() -> Path:
    """Return the directory of kept covering arrays."""
    return _base_folder() / "rows"


def _base_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE, "")
    base = Path(named) if named else user_cache_path("goldentrace", appauthor=False)
    return base.absolute()


def environment_for(release: str) -> PreparedSide:
    """Return a published release with its environment; missing parts are downloaded.

    Raises:
        ToolError: it cannot be downloaded, or the cache cannot be written.
    """
    wheel = PackageLayer(
        path=cache_folder() / f"sglang-{release}-{_platform_tag()}",
        requirements=(f"sglang=={release}",),
        subject=f"sglang {release}",
    )
    root = ensure_layer(wheel)
    layers, note = pinned_layers(release)
    return PreparedSide(root=root, layers=layers, note=note)


def pinned_layers(release: str) -> tuple[tuple[Path, ...], str]:
    """Return the dependencies of a release, downloaded if missing, and a note on deviations.

    Raises:
        ToolError: they cannot be downloaded, or the cache cannot be written.
    """
    pins = pins_of(release)
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
