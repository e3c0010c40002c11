"""Check that the CHANGELOG declares every golden that a change touches.

A golden rewritten together with the code that broke it proves nothing; the entry makes the change
visible to the reviewer in words.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError
from tools.git import commit_of, git, is_repository, try_git
from tools.goldens import changelog
from traces.pytest.golden_files import is_sidecar
from traces.schema.canonical import SUFFIX

BASE_REF = "GOLDENTRACE_BASE_REF"
CHANGELOG_NAME = "CHANGELOG.md"

_DEFAULT_BRANCHES = ("origin/HEAD", "origin/main", "main")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclarationCheck:
    """Result of the comparison with the base branch.

    Attributes:
        changed: scenarios whose goldens differ from the merge base, uncommitted and untracked ones
            included, sorted.
        undeclared: those of them that no new CHANGELOG entry names.
        note: the reason when less was compared; empty in the usual case.
    """

    changed: tuple[str, ...]
    undeclared: tuple[str, ...]
    note: str


def check_declaration(root: Path, *, folder: Path) -> DeclarationCheck:
    """Compare the goldens of a folder and the CHANGELOG with the merge base of the default branch.

    Raises:
        ToolError: git failed, or ``GOLDENTRACE_BASE_REF`` names no commit.
    """
    if not is_repository(root):
        return _unchecked("not a git repository: golden changes were not checked for declaration")
    if commit_of(root, "HEAD") is None:
        return _unchecked("no commit yet: golden changes were not checked for declaration")
    base, note = _merge_base(root)
    changed = _changed_goldens(root, base=base, folder=folder)
    old = try_git(root, "show", f"{base}:./{CHANGELOG_NAME}")
    entries = changelog.added_entries(old or "", changelog_text(root))
    undeclared = changelog.undeclared_scenarios(changed, entries)
    return DeclarationCheck(changed=changed, undeclared=undeclared, note=note)


def changelog_text(root: Path) -> str:
    """Return the CHANGELOG of the work tree; empty without one.

    Raises:
        ToolError: it cannot be read.
    """
    path = root / CHANGELOG_NAME
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        rule = "must be readable"
        raise ToolError(CHANGELOG_NAME, rule, expected="a UTF-8 file", got=error) from error


def _unchecked(note: str) -> DeclarationCheck:
    return DeclarationCheck(changed=(), undeclared=(), note=note)


def _merge_base(root: Path) -> tuple[str, str]:
    """Return the commit to compare with, and a note when it is not a merge base."""
    named = os.environ.get(BASE_REF, "")
    candidates = (named,) if named else _DEFAULT_BRANCHES
    branch = next((ref for ref in candidates if commit_of(root, ref) is not None), None)
    if branch is None:
        if named:
            raise ToolError(BASE_REF, "must name a commit", expected="a revision", got=repr(named))
        tried = ", ".join(_DEFAULT_BRANCHES)
        return "HEAD", f"none of {tried} is known: goldens were compared with HEAD alone"
    base = try_git(root, "merge-base", branch, "HEAD")
    if base is None:
        rule = "must share history with HEAD"
        raise ToolError(branch, rule, expected="a merge base", got="none (a shallow clone?)")
    return base, ""


def _changed_goldens(root: Path, *, base: str, folder: Path) -> tuple[str, ...]:
    place = folder.relative_to(root).as_posix()
    against = ("diff", "--name-only", "--no-renames", "--relative", "-z", base, "--", place)
    untracked = ("ls-files", "--others", "--exclude-standard", "-z", "--", place)
    files = {file for ask in (against, untracked) for file in git(root, *ask).split("\0") if file}
    return tuple(
        sorted(
            Path(file).name.removesuffix(SUFFIX)
            for file in files
            if file.endswith(SUFFIX) and not is_sidecar(Path(file).name)
        )
    )
