"""Script that an interpreter runs as a worker process.

Until the worker class is imported it needs the standard library alone. It is run by path, so that
nothing of this project is on ``sys.path`` because of it; a finder locates our packages by name
instead. The side's tree and its pinned dependencies come first, the interpreter's own packages
last: what is installed beside this project cannot hide what the side has pinned, and the ``tools``
package in a wheel of sglang cannot hide ours.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

_OURS = Path(__file__).resolve().parents[2]
_PACKAGES = ("assembler", "sglang", "tools", "traces")


class _OurPackageFinder:
    """A finder of our packages beside this file, whatever else has their names.

    A side that has an ``assembler`` keeps it: its root is first on ``sys.path``.
    """

    def __init__(self, root: Path) -> None:
        is_native = (root / "assembler" / "__init__.py").is_file()
        self._names = {"tools", "traces"} if is_native else {"assembler", "tools", "traces"}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return the location of one of our packages; submodules are found as usual."""
        if path is not None or fullname not in self._names:
            return None
        return PathFinder.find_spec(fullname, [str(_OURS)], target)


def main() -> None:
    """Serve the connection whose inherited file descriptor is the first argument.

    The second is ``module:class`` of the worker, the third the directory that keeps compiled
    modules, if any. The others go first on ``sys.path``: the root of the side, then its layers.
    """
    descriptor, worker_class, compiled, *paths = sys.argv[1:]
    root = Path(paths[0])
    sys.meta_path.insert(0, _OurPackageFinder(root))
    sys.path[:0] = paths
    from tools.workers.compiled_modules import keep_compiled_modules
    from tools.workers.serve import serve

    if compiled:
        packages = [place / name for place in (_OURS, root) for name in _PACKAGES]
        keep_compiled_modules(Path(compiled), [*packages, *map(Path, paths[1:])])

    serve(Connection(int(descriptor)), worker_class=worker_class, root=root)


if __name__ == "__main__":
    main()
