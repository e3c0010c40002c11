"""Source trees of sglang: location of the package and its release."""

import re
from pathlib import Path

from tools.errors import ToolError
from tools.git import try_git

PACKAGE = "sglang"

_VERSION_FILES = ("_version.py", "version.py")
_VERSION = re.compile(r"""^__version__\s*=[^'"]*['"]([^'"]+)['"]""", re.MULTILINE)


def package_root(path: Path) -> Path:
    """Return the directory that holds ``sglang/``: an unpacked wheel's, or a repository's.

    Raises:
        ToolError: there is none.
    """
    place = path.expanduser().absolute()
    candidates = [place, place / "python"]
    if place.name == PACKAGE:
        candidates.append(place.parent)
    for candidate in candidates:
        if (candidate / PACKAGE / "srt").is_dir():
            return candidate
    expected = "sglang/srt in it or in its python/"
    got = "none" if place.is_dir() else "no such directory"
    raise ToolError(str(path), "must hold sglang", expected=expected, got=got)


def read_release(root: Path) -> str | None:
    """Return the release of a tree, or None when it is not recorded in it.

    The package's own version file comes first, then metadata beside it, then git's tags.
    """
    for name in _VERSION_FILES:
        file = root / PACKAGE / name
        found = _VERSION.search(file.read_text(encoding="utf-8")) if file.is_file() else None
        if found:
            return found[1]
    for folder in sorted(root.glob(f"{PACKAGE}-*.dist-info")):
        return folder.name.removeprefix(f"{PACKAGE}-").removesuffix(".dist-info")
    tag = try_git(root, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    return tag.removeprefix("v") if tag else None
