"""Sides: words on the command line, and a revision's assembler in a temporary work tree."""

import subprocess
from pathlib import Path

import pytest

from tools.errors import ToolError
from tools.sides.environments.cache import PreparedSide
from tools.sides.parse import parse_side
from tools.sides.prepare import prepare_side


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    (root / "assembler").mkdir(parents=True)
    (root / "traces").mkdir()
    (root / "assembler" / "__init__.py").write_text("VALUE = 1\n")
    (root / "traces" / "__init__.py").touch()
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    (root / "assembler" / "__init__.py").write_text("VALUE = 2\n")
    git(root, "commit", "-q", "-a", "-m", "two")
    return root


def side_of(text: str, *, root: Path, target: str = "native"):
    return parse_side(text, root=root, target=target)


def worktrees(root: Path) -> int:
    return git(root, "worktree", "list").count("\n")


def test_golden_and_worktree_are_words_of_their_own(repository):
    assert side_of("golden", root=repository).described == {"side": "golden"}
    assert side_of("worktree", root=repository).kind == "worktree"


def test_revision_is_described_with_its_commit(repository):
    commit = git(repository, "rev-parse", "HEAD~1").strip()
    assert side_of("HEAD~1", root=repository).described == {"side": "HEAD~1", "commit": commit}


@pytest.mark.parametrize("text", ["nowhere", "", "--all", "pypi:0.5.12", "HEAD:assembler"])
def test_word_that_is_no_side_is_refused(repository, text):
    expected = "^side: must be known; expected golden, worktree or a git revision, got "
    with pytest.raises(ToolError, match=expected):
        side_of(text, root=repository)


def test_revision_outside_a_repository_is_refused(tmp_path):
    with pytest.raises(ToolError, match=r"^side: must be known"):
        side_of("HEAD", root=tmp_path)


def test_revision_is_checked_out_with_its_assembler_alone_and_removed(repository):
    side = side_of("HEAD~1", root=repository)
    with prepare_side(side, root=repository) as place:
        assert (place.root / "assembler" / "__init__.py").read_text() == "VALUE = 1\n"
        assert not (place.root / "traces").exists()
        assert worktrees(repository) == 2
    assert not place.root.exists()
    assert worktrees(repository) == 1
    assert git(repository, "status", "--porcelain") == ""


def test_interrupt_removes_the_work_tree(repository):
    side = side_of("HEAD~1", root=repository)
    with (
        pytest.raises(KeyboardInterrupt),
        prepare_side(side, root=repository) as place,
    ):
        raise KeyboardInterrupt
    assert not place.root.exists()
    assert worktrees(repository) == 1


def test_revision_without_assembler_is_refused_and_cleaned_up(repository):
    git(repository, "rm", "-q", "-r", "assembler")
    git(repository, "commit", "-q", "-m", "gone")
    side = side_of("HEAD", root=repository)
    with (
        pytest.raises(ToolError, match=r"^git checkout: must succeed; .*'assembler'"),
        prepare_side(side, root=repository),
    ):
        pass
    assert worktrees(repository) == 1


def test_hooks_do_not_run(repository, tmp_path):
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    with prepare_side(side_of("HEAD", root=repository), root=repository):
        pass
    assert not (tmp_path / "ran").exists()


def test_variables_of_a_running_hook_are_ignored(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert side_of("HEAD", root=repository).kind == "revision"


def test_worktree_is_played_where_it_is(repository):
    with prepare_side(side_of("worktree", root=repository), root=repository) as place:
        assert place == PreparedSide(root=repository)


def test_golden_cannot_be_played(repository):
    with (
        pytest.raises(ToolError, match=r"^side: must be runnable"),
        prepare_side(side_of("golden", root=repository), root=repository),
    ):
        pass
