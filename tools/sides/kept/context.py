"""Everything but the package's own tree that a recording depends on, as one digest."""

import platform
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from tools.sides.environments.cache import PreparedSide
from tools.sides.kept.trees import digest_of, digest_of_folders
from tools.workers.results import HASH_SEEDS

# Format of the files; another one is another context.
_FORMAT = "1"
_WORKER_FOLDERS = ("tools/workers",)
_TRACE_FOLDERS = ("recording", "schema", "simulator", "targets", "divergence")
_PROJECT = Path(__file__).resolve().parents[3]


def context_digest(side: PreparedSide, *, worker_class: str, device: str, package: str) -> str:
    """Return a digest of interpreter, installed packages, platform, device and our own sources.

    Our ``assembler`` belongs to it unless it is the package under guard: the simulated accelerator
    is built on it.
    """
    return digest_of(
        [
            _FORMAT,
            worker_class,
            device,
            str(HASH_SEEDS),
            sys.version,
            platform.platform(),
            str(Path("/dev/nvidiactl").exists()),
            _installed_digest(),
            *(layer.name for layer in side.layers),
            _sources_digest(package),
        ]
    )


@cache
def _sources_digest(package: str) -> str:
    own = () if package == "assembler" else ("assembler",)
    folders = (*_WORKER_FOLDERS, *(f"traces/{name}" for name in _TRACE_FOLDERS), *own)
    loose = sorted((_PROJECT / "traces").glob("*.py"))
    return digest_of(
        [digest_of_folders(_PROJECT, folders=folders), *(p.read_text("utf-8") for p in loose)]
    )


@cache
def _installed_digest() -> str:
    return digest_of(sorted(str(one._path) for one in distributions()))  # type: ignore[attr-defined] # noqa: SLF001
