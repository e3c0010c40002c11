"""The program of a worker in another interpreter: needs the standard library, then the stage.

Run as a script, so that nothing of ours is on ``sys.path``. Our own packages are found by name; the
side's tree and its pinned dependencies come first, the interpreter's own packages last. So what is
installed beside us never gets in front of what the side has pinned, and the ``tools`` that a wheel
of sglang brings along never hides ours.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

_OUR_PACKAGES = frozenset({"assembler", "tools", "traces"})


class _OurPackageFinder:
    """Finds our packages where this file lies, wherever else there are some of the same names."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
        /,
    ) -> ModuleSpec | None:
        """Return where one of our packages lies; parts of them are found as usual."""
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
    descriptor, stage, *paths = sys.argv[1:]
    sys.meta_path.insert(0, _OurPackageFinder())
    sys.path[:0] = paths
    from tools.workers.protocol import serve

    serve(Connection(int(descriptor)), worker_class=stage, root=Path(paths[0]))


if __name__ == "__main__":
    main()
