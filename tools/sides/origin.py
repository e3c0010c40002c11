"""Choice of the copy of the project that is judged: the checkout of the working directory.

The three import names are generic (PyPI has a ``traces`` and a ``tools``), and an installed copy
may be older than the checkout. A verdict about the wrong copy is worse than none.
"""

import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tools.errors import ToolError

PACKAGES = ("assembler", "traces", "tools")
HANDED_OVER_VARIABLE = "GOLDENTRACE_HANDED_OVER"

_PROJECT_NAME = re.compile(r'^name\s*=\s*"goldentrace"\s*$', re.MULTILINE)

Execute = Callable[[str, list[str], Mapping[str, str]], object]


def imported_root() -> Path:
    """Return the directory that holds the running ``tools`` package."""
    return Path(__file__).resolve().parents[2]


def project_version() -> str:
    """Return the version of the running copy: of its checkout, or as it was installed."""
    project = imported_root() / "pyproject.toml"
    if not project.is_file():
        return version("goldentrace")
    found: str = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    return found


def is_checkout(directory: Path) -> bool:
    """Return whether a directory is the root of a goldentrace checkout."""
    project = directory / "pyproject.toml"
    modules = [directory / package / "__init__.py" for package in PACKAGES]
    if not all(file.is_file() for file in (project, *modules)):
        return False
    return _PROJECT_NAME.search(project.read_text(encoding="utf-8", errors="replace")) is not None


def checkout_above(directory: Path) -> Path | None:
    """Return the innermost checkout that a directory lies in, or None."""
    here = directory.resolve()
    return next((place for place in (here, *here.parents) if is_checkout(place)), None)


def resolve_root(*, arguments: Sequence[str], working_directory: Path, execute: Execute) -> Path:
    """Return the root of the judged code; another checkout's own copy replaces this process.

    ``execute`` replaces it, as ``os.execve`` does, with ``arguments`` passed on unchanged.

    Raises:
        ToolError: the three packages do not come from one root.
    """
    root = imported_root()
    checkout = checkout_above(working_directory)
    if checkout is not None and checkout != root:
        _hand_over(checkout, root=root, arguments=arguments, execute=execute)
    for package in PACKAGES:
        _require_under(root, package=package)
    return root


def _hand_over(checkout: Path, *, root: Path, arguments: Sequence[str], execute: Execute) -> None:
    if os.environ.get(HANDED_OVER_VARIABLE) == str(checkout):
        raise ToolError("tools", "must come from the current checkout", expected=checkout, got=root)
    paths = [str(checkout), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        HANDED_OVER_VARIABLE: str(checkout),
    }
    sys.stdout.flush()
    sys.stderr.flush()
    # -P keeps the current directory off sys.path: a neighbour called tools/ must not come first.
    execute(sys.executable, [sys.executable, "-P", "-m", "tools.cli", *arguments], environment)


def _require_under(root: Path, *, package: str) -> None:
    found = find_spec(package)
    origin = None if found is None else found.origin
    if origin is None or Path(origin).resolve().parent.parent != root:
        raise ToolError(package, "must come from the same root as tools", expected=root, got=origin)
