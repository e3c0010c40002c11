"""Sides of a comparison, as the command line names them.

The native target has the committed goldens, the work tree and its revisions; a package target has
published releases, source trees and revisions of other repositories.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tools.errors import ToolError
from tools.git import commit_of, is_repository
from tools.goldens.golden_set import golden_folder, golden_names
from tools.sides.environments.cache import parse_release
from tools.sides.environments.trees import package_root, read_release
from tools.sides.targets import NATIVE, TARGETS

SideKind: TypeAlias = Literal["golden", "worktree", "revision", "pypi", "dir", "git"]

# The last @ parts path and revision, unless it belongs to a revision such as HEAD@{1}.
_PATH_AT_REVISION = re.compile(r"(?P<path>.+)@(?P<revision>(?!\{).+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison.

    Attributes:
        kind: where its traces come from.
        text: as the user named it.
        commit: full commit id of a revision, empty otherwise.
        release: version of a package where that is known, empty otherwise.
        place: the directory that holds a tree's package, or the repository of a ``git:`` side;
            None for the others.
        python: interpreter of a source tree; None for our own, with the pinned dependencies where
            it lacks them.
    """

    kind: SideKind
    text: str
    commit: str = ""
    release: str = ""
    place: Path | None = None
    python: Path | None = None

    @property
    def described(self) -> dict[str, str]:
        """The side as the verdict prints it."""
        known = {"commit": self.commit, "version": self.release}
        return {"side": self.text, **{key: text for key, text in known.items() if text}}


def parse_side(text: str, *, root: Path, target: str) -> Side:
    """Return the side that a word on the command line names; its target decides the known kinds.

    Raises:
        ToolError: it names none.
    """
    side = _parse_native(text, root=root) if target == NATIVE else _parse_package(text, root=root)
    if side is None:
        raise ToolError("side", "must be known", expected=TARGETS[target].sides, got=repr(text))
    return side


def _parse_native(text: str, *, root: Path) -> Side | None:
    if text == "golden":
        return Side(kind="golden", text=text)
    if text == "worktree":
        return Side(kind="worktree", text=text)
    commit = commit_of(root, text) if is_repository(root) else None
    return None if commit is None else Side(kind="revision", text=text, commit=commit)


def _parse_package(text: str, *, root: Path) -> Side | None:
    kind, _, rest = text.partition(":")
    if text == "golden":
        folder = golden_folder(root, target="sglang")
        if not golden_names(folder):
            rule, expected = "must have been written", f"traces in {folder}"
            raise ToolError("golden", rule, expected=expected, got=0)
        return Side(kind="golden", text=text)
    if kind == "pypi":
        return Side(kind="pypi", text=text, release=parse_release(rest))
    if kind == "dir":
        if not rest:
            raise ToolError("side", "must name a directory", expected="dir:PATH", got=repr(text))
        place = package_root(Path(rest))
        return Side(kind="dir", text=text, release=read_release(place) or "", place=place)
    if kind == "git":
        return _parse_git(text, rest)
    return None


def _parse_git(text: str, rest: str) -> Side:
    found = _PATH_AT_REVISION.fullmatch(rest)
    if found is None:
        raise ToolError("side", "must name a revision", expected="git:PATH@REV", got=repr(text))
    place = Path(found["path"]).expanduser().absolute()
    if not place.is_dir() or not is_repository(place):
        raise ToolError(str(place), "must be a git repository", expected="one", got="none")
    commit = commit_of(place, found["revision"])
    if commit is None:
        got = repr(found["revision"])
        raise ToolError(str(place), "must know the revision", expected="a commit", got=got)
    return Side(kind="git", text=text, commit=commit, place=place)
