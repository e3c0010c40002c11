"""Calls of git, each as one subprocess."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.errors import ToolError, one_line

# A hook runs with these set for its own repository and index; ours is found from the directory.
_HOOK_VARIABLES = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"}
)


def git(root: Path, *arguments: str) -> str:
    """Run git in a directory and return what it prints.

    Raises:
        ToolError: git is missing or failed; the message holds its stderr.
    """
    done = _run(root, arguments)
    if done.returncode != 0:
        got = f"{done.returncode} ({one_line(done.stderr)})"
        raise ToolError(f"git {arguments[0]}", "must succeed", expected="exit code 0", got=got)
    return done.stdout


def try_git(root: Path, *arguments: str) -> str | None:
    """Run git in a directory; return its stripped output, or None when it fails."""
    done = _run(root, arguments)
    return done.stdout.strip() if done.returncode == 0 else None


def is_repository(root: Path) -> bool:
    """Return whether a directory lies in a work tree.

    Raises:
        ToolError: the repository exists, but git is missing or refuses to read it.
    """
    if not any((place / ".git").exists() for place in (root, *root.parents)):
        return False
    return git(root, "rev-parse", "--is-inside-work-tree").strip() == "true"


def commit_of(root: Path, revision: str) -> str | None:
    """Return the full commit id a revision names, or None when it names none."""
    commit = f"{revision}^{{commit}}"
    return try_git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", commit)


def is_dirty(root: Path, *, excluding: Path) -> bool:
    """Return whether tracked or new files differ from the commit, other than those in one folder.

    Raises:
        ToolError: git failed.
    """
    place = excluding.relative_to(root).as_posix()
    return git(root, "status", "--porcelain", "--", ".", f":(exclude){place}") != ""


@contextmanager
def checkout_commit(root: Path, *, commit: str, folder: str) -> Iterator[Path]:
    """Check one folder of a commit out into a temporary work tree, and remove it at the end.

    Nothing else of the commit is written: the tree can go first on ``sys.path`` without hiding
    anything but that folder. Hooks do not run.

    Raises:
        ToolError: the commit has no such folder, or git failed.
    """
    with TemporaryDirectory(prefix="goldentrace-base-") as scratch:
        tree = Path(scratch).resolve() / "tree"
        try:
            git(root, "worktree", "add", "--detach", "--no-checkout", str(tree), commit)
            git(tree, "checkout", "HEAD", "--", folder)
            yield tree
        finally:
            try_git(root, "worktree", "remove", "--force", "--force", str(tree))
            try_git(root, "worktree", "prune")


def _run(root: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(root), "-c", "core.hooksPath=/dev/null", *arguments]
    environment = {key: text for key, text in os.environ.items() if key not in _HOOK_VARIABLES}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env={**environment, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except FileNotFoundError as error:
        raise ToolError("git", "must be installed", expected="git on PATH", got=error) from error
