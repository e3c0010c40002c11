"""Golden changes must be declared in the CHANGELOG of the same change."""

import subprocess
from pathlib import Path

import pytest

from tools.errors import ToolError
from tools.goldens.declaration import BASE_REF, check_declaration


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def no_base_ref(monkeypatch):
    monkeypatch.delenv(BASE_REF, raising=False)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "checkout"
    golden = root / "traces" / "golden" / "native"
    golden.mkdir(parents=True)
    (golden / "a.json").write_text("a\n")
    (golden / "b.json").write_text("b\n")
    (golden / "PROVENANCE.json").write_text("{}\n")
    changelog = "# Changelog\n\n## [Unreleased]\n\n### Goldens\n\n- `*`: the first ones\n"
    (root / "CHANGELOG.md").write_text(changelog)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    return root


def golden(root: Path) -> Path:
    return root / "traces" / "golden" / "native"


def declare(root: Path, entry: str) -> None:
    path = root / "CHANGELOG.md"
    path.write_text(path.read_text() + entry + "\n")


def check(root: Path):
    return check_declaration(root, folder=golden(root))


def test_unchanged_goldens_need_nothing(root):
    declaration = check(root)
    assert (declaration.changed, declaration.undeclared, declaration.note) == ((), (), "")


def test_uncommitted_change_must_be_declared(root):
    (golden(root) / "a.json").write_text("changed\n")
    assert check(root).undeclared == ("a",)
    declare(root, "- a: why")
    assert check(root).undeclared == ()
    assert check(root).changed == ("a",)


def test_untracked_and_deleted_goldens_must_be_declared(root):
    (golden(root) / "new.json").write_text("new\n")
    (golden(root) / "b.json").unlink()
    assert check(root).undeclared == ("b", "new")


def test_pattern_declares(root):
    (golden(root) / "a.json").write_text("changed\n")
    declare(root, "- `[ab]`: why")
    assert check(root).undeclared == ()


def test_provenance_and_other_files_need_nothing(root):
    (golden(root) / "PROVENANCE.json").write_text('{"new": 1}\n')
    (golden(root) / "PARITY.json").write_text('{"new": 1}\n')
    (golden(root) / "README.md").write_text("text\n")
    assert check(root).changed == ()


def test_entry_that_the_base_already_had_declares_nothing(root):
    """``- *: the first ones`` stands in the CHANGELOG since the first commit."""
    git(root, "checkout", "-q", "-b", "work")
    (golden(root) / "a.json").write_text("changed\n")
    git(root, "commit", "-q", "-a", "-m", "two")
    assert check(root).undeclared == ("a",)


def test_commits_of_a_branch_are_compared_with_where_it_left_main(root):
    git(root, "checkout", "-q", "-b", "work")
    (golden(root) / "a.json").write_text("changed\n")
    git(root, "commit", "-q", "-a", "-m", "two")
    git(root, "checkout", "-q", "main")
    (golden(root) / "b.json").write_text("changed on main\n")
    git(root, "commit", "-q", "-a", "-m", "three")
    git(root, "checkout", "-q", "work")
    assert check(root).changed == ("a",)


def test_on_the_default_branch_only_uncommitted_changes_count(root):
    (golden(root) / "a.json").write_text("changed\n")
    git(root, "commit", "-q", "-a", "-m", "two")
    assert check(root).changed == ()
    (golden(root) / "b.json").write_text("changed\n")
    assert check(root).changed == ("b",)


def test_base_ref_from_the_environment_comes_first(root, monkeypatch):
    (golden(root) / "a.json").write_text("changed\n")
    git(root, "commit", "-q", "-a", "-m", "two")
    monkeypatch.setenv(BASE_REF, "HEAD~1")
    assert check(root).changed == ("a",)


def test_base_ref_that_names_nothing_is_refused(root, monkeypatch):
    monkeypatch.setenv(BASE_REF, "nowhere")
    with pytest.raises(ToolError, match=r"^GOLDENTRACE_BASE_REF: must name a commit; .*'nowhere'$"):
        check(root)


def test_base_without_common_history_is_refused(root, monkeypatch):
    git(root, "checkout", "-q", "--orphan", "other")
    git(root, "commit", "-q", "-m", "no parents")
    with pytest.raises(ToolError, match=r"^main: must share history with HEAD"):
        check(root)


def test_without_default_branch_head_alone_is_compared_and_said(root):
    git(root, "branch", "-q", "-m", "trunk")
    (golden(root) / "a.json").write_text("changed\n")
    declaration = check(root)
    assert declaration.changed == ("a",)
    assert "compared with HEAD alone" in declaration.note


def test_without_repository_it_is_a_note(tmp_path):
    folder = tmp_path / "traces" / "golden" / "native"
    folder.mkdir(parents=True)
    assert check_declaration(tmp_path, folder=folder).note.startswith("not a git repository")


def test_before_the_first_commit_it_is_a_note(tmp_path):
    git(tmp_path, "init", "-q")
    assert check_declaration(tmp_path, folder=tmp_path / "x").note.startswith("no commit yet")


def test_checkout_in_a_subdirectory_of_a_repository(tmp_path):
    root = tmp_path / "deep" / "checkout"
    folder = root / "traces" / "golden" / "native"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("a\n")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    (folder / "a.json").write_text("changed\n")
    assert check_declaration(root, folder=folder).undeclared == ("a",)
    (root / "CHANGELOG.md").write_text("## Unreleased\n### Goldens\n- a: why\n")
    assert check_declaration(root, folder=folder).undeclared == ()
