"""Script that another interpreter runs as a worker process.

Until the worker class is imported it needs the standard library alone. It is run by path, so that
nothing of this project is on ``sys.path``; a finder locates our packages by name instead. The
side's tree and its pinned dependencies come first, the interpreter's own packages last: what is
installed beside this project cannot hide what the side has pinned, and the ``tools`` package in a
wheel of sglang cannot hide ours.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

_OUR_PACKAGES = frozenset({"assembler", "tools", "traces"})


class _OurPackageFinder:
    """A finder that locates our packages beside this file, whatever else has their names."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
        /,
    ) -> ModuleSpec | None:
        """Return the location of one of our packages; submodules are found as usual."""
        if path is not None or fullname not in _OUR_PACKAGES:
            return None
        return PathFinder.find_spec(fullname, [str(Path(__file__).resolve().parents[2])], target)


def command_arguments(
    *, descriptor: int, worker_class: str, root: Path, layers: Sequence[Path]
) -> tuple[str, ...]:
    """Return the command line of this program.

    Args:
        descriptor: file descriptor of the connection, inherited.
        worker_class: ``module:class`` of the stage.
        root: directory that holds the side's package.
        layers: directories for ``sys.path`` after the root.
    """
    return (str(descriptor), worker_class, str(root), *map(str, layers))


def main() -> None:
    """Serve one connection."""
    descriptor, worker_class, *paths = sys.argv[1:]
    sys.meta_path.insert(0, _OurPackageFinder())
    sys.path[:0] = paths
    from tools.workers.serve import serve

    serve(Connection(int(descriptor)), worker_class=worker_class, root=Path(paths[0]))


if __name__ == "__main__":
    main()
