"""Names in the files of a package that a refactor does not look into."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_DEFINED = re.compile(rb"^\s*(?:class|def|async def)\s+(\w+)", re.MULTILINE)
_PRIVATE = re.compile(rb"\b_\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideNames:
    """Names in some files.

    Attributes:
        defined: names of functions and classes that they define.
        private: names with an underscore in front that occur anywhere in them.
    """

    defined: frozenset[str] = frozenset()
    private: frozenset[str] = frozenset()


def names_by_file(root: Path, packages: Iterable[str]) -> dict[str, OutsideNames]:
    """Return the names in every file of some packages, by path under the root."""
    return {
        path.relative_to(root).as_posix(): _names_in(path.read_bytes())
        for package in packages
        for path in (root / package).rglob("*.py")
    }


def names_outside(found: Mapping[str, OutsideNames], files: Collection[str]) -> OutsideNames:
    """Return the names in all files but some."""
    others = [names for file, names in found.items() if file not in files]
    return OutsideNames(
        defined=frozenset[str]().union(*(one.defined for one in others)),
        private=frozenset[str]().union(*(one.private for one in others)),
    )


def _names_in(source: bytes) -> OutsideNames:
    return OutsideNames(
        defined=frozenset(name.decode() for name in _DEFINED.findall(source)),
        private=frozenset(name.decode() for name in _PRIVATE.findall(source)),
    )
