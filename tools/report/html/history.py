"""History of the goldens: the commits that changed them."""

from dataclasses import dataclass
from pathlib import Path

from tools.git import is_repository, try_git
from traces.schema.canonical import SUFFIX

_MARK = "\x1e"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCommit:
    """A commit that changed goldens.

    Attributes:
        date: of the author, ISO 8601.
        number: of goldens that it changed.
    """

    date: str
    commit: str
    subject: str
    number: int


def golden_history(root: Path, *, folder: Path, most: int = 30) -> tuple[GoldenCommit, ...]:
    """Return the newest commits that changed goldens of a folder; none outside a repository."""
    if not is_repository(root):
        return ()
    shape = f"--format={_MARK}%as%x00%h%x00%s"
    text = try_git(root, "log", f"-{most}", "--name-only", shape, "--", str(folder))
    return tuple(_parse(part) for part in (text or "").split(_MARK) if part.strip())


def _parse(part: str) -> GoldenCommit:
    head, *files = part.splitlines()
    date, commit, subject = head.split("\x00")
    number = sum(file.endswith(SUFFIX) for file in files)
    return GoldenCommit(date=date, commit=commit, subject=subject, number=number)
