"""What is compared with what: the committed goldens, the work tree, or a revision of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.errors import ToolError
from tools.git import checked_out, commit_of, is_repository

TARGETS = ("native",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison.

    Attributes:
        kind: where its traces come from.
        text: as the user named it.
        commit: full commit id of a revision, empty otherwise.
    """

    kind: Literal["golden", "worktree", "revision"]
    text: str
    commit: str

    @property
    def described(self) -> dict[str, str]:
        """The side as the verdict prints it."""
        named = {"side": self.text}
        return {**named, "commit": self.commit} if self.commit else named


def parse_side(text: str, *, root: Path) -> Side:
    """Return the side a word on the command line stands for.

    Raises:
        ToolError: it stands for none.
    """
    if text in ("golden", "worktree"):
        kind: Literal["golden", "worktree"] = "golden" if text == "golden" else "worktree"
        return Side(kind=kind, text=text, commit="")
    commit = commit_of(root, text) if is_repository(root) else None
    if commit is None:
        known = "golden, worktree or a git revision"
        raise ToolError("side", "must be known", expected=known, got=repr(text))
    return Side(kind="revision", text=text, commit=commit)


@contextmanager
def played_root(side: Side, *, root: Path) -> Iterator[Path]:
    """Yield the directory that holds the side's ``assembler/``; a revision's is temporary.

    Raises:
        ToolError: the revision cannot be checked out, or the side cannot be played.
    """
    if side.kind == "golden":
        raise ToolError("side", "must be playable", expected="worktree or a revision", got="golden")
    if side.kind == "worktree":
        yield root
        return
    with checked_out(root, commit=side.commit, folder="assembler") as tree:
        yield tree
