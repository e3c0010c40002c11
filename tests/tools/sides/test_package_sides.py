"""Sides of a package: releases, source trees and revisions of other repositories."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tools.errors import ToolError
from tools.sides import prepare as prepare_module
from tools.sides.environments.cache import PreparedSide
from tools.sides.parse import parse_side
from tools.sides.prepare import parse_python, prepare_side


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_tree(root: Path, *, version: str = "") -> Path:
    package = root / "sglang"
    (package / "srt").mkdir(parents=True)
    (package / "__init__.py").write_text("VALUE = 1\n")
    (package / "srt" / "__init__.py").touch()
    if version:
        (package / "_version.py").write_text(f"__version__ = version = '{version}'\n")
    return root


@pytest.fixture
def repository(tmp_path):
    """A checkout of sglang, whose package lies below python/; tagged, two commits."""
    root = tmp_path / "repository"
    make_tree(root / "python")
    (root / "tools").mkdir()
    (root / "tools" / "__init__.py").touch()
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    git(root, "tag", "v0.5.13")
    (root / "python" / "sglang" / "__init__.py").write_text("VALUE = 2\n")
    git(root, "commit", "-q", "-a", "-m", "two")
    return root


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    root.mkdir()
    return root


def side_of(text, checkout):
    return parse_side(text, root=checkout, target="sglang")


@pytest.fixture
def layers_asked_for(monkeypatch):
    """Releases whose dependencies were asked for; nothing is built."""
    asked = []

    def pinned(release):
        asked.append(release)
        return (Path("/layer"),), ""

    monkeypatch.setattr(prepare_module, "pinned_layers", pinned)
    return asked


@pytest.fixture
def lacking(monkeypatch):
    """Our environment has nothing that sglang needs."""
    monkeypatch.setattr(prepare_module, "SGLANG_DEPENDENCIES", ("no_such_package",))


@pytest.mark.parametrize("text", ["worktree", "HEAD", "0.5.12", "npm:1", ""])
def test_word_of_another_target_is_refused(checkout, text):
    expected = r"^side: must be known; expected pypi:VERSION, dir:PATH, git:PATH@REV or golden, got"
    with pytest.raises(ToolError, match=expected):
        side_of(text, checkout)


@pytest.mark.parametrize("text", ["pypi:0.5.12", "dir:.", "git:.@HEAD"])
def test_side_of_a_package_is_none_of_the_native_target(checkout, text):
    with pytest.raises(ToolError, match=r"^side: must be known; expected golden, worktree or"):
        parse_side(text, root=checkout, target="native")


@pytest.mark.parametrize("version", ["", "--index-url=x", "../0.5.12", "newest"])
def test_release_must_be_a_version(checkout, version):
    with pytest.raises(ToolError, match=r"^side: must name a version; expected pypi:VERSION such"):
        side_of(f"pypi:{version}", checkout)


def test_release_is_described_with_its_version(checkout):
    side = side_of("pypi:0.5.12.post1", checkout)
    assert side.described == {"side": "pypi:0.5.12.post1", "version": "0.5.12.post1"}


def test_golden_of_a_package_must_have_been_written(checkout):
    with pytest.raises(ToolError, match=r"^golden: must have been written; expected traces in "):
        side_of("golden", checkout)
    folder = checkout / "traces" / "golden" / "sglang"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("{}\n")
    assert side_of("golden", checkout).kind == "golden"


@pytest.mark.parametrize("place", ["", "python", "python/sglang"])
def test_tree_is_found_in_a_checkout_beside_a_wheel_and_as_itself(checkout, tmp_path, place):
    root = make_tree(tmp_path / "python", version="0.5.14")
    side = side_of(f"dir:{tmp_path / place}", checkout)
    assert side.place == root
    assert side.described == {"side": f"dir:{tmp_path / place}", "version": "0.5.14"}


def test_tree_without_the_package_is_refused(checkout, tmp_path):
    with pytest.raises(ToolError, match=r"must hold sglang; expected sglang/srt in it or in its"):
        side_of(f"dir:{tmp_path}", checkout)
    with pytest.raises(ToolError, match=r"must hold sglang; .* got no such directory$"):
        side_of(f"dir:{tmp_path}/nowhere", checkout)


def test_release_of_a_tree_is_read_from_metadata_when_it_has_no_version_file(checkout, tmp_path):
    make_tree(tmp_path)
    (tmp_path / "sglang-0.5.11.dist-info").mkdir()
    assert side_of(f"dir:{tmp_path}", checkout).release == "0.5.11"


def test_tree_gets_the_dependencies_of_its_release(checkout, tmp_path, lacking, layers_asked_for):
    side = side_of(f"dir:{make_tree(tmp_path / 'a', version='0.5.11')}", checkout)
    with prepare_side(side, root=checkout) as place:
        assert (place.root, place.layers) == (tmp_path / "a", (Path("/layer"),))
    assert layers_asked_for == ["0.5.11"]


def test_tree_that_does_not_say_its_release_gets_the_newest_dependencies(
    checkout, tmp_path, lacking, layers_asked_for, capsys
):
    side = side_of(f"dir:{make_tree(tmp_path / 'a')}", checkout)
    with prepare_side(side, root=checkout):
        pass
    assert layers_asked_for == ["0.5.23"]
    assert (
        "does not say which release it is: requirements of 0.5.23 used" in capsys.readouterr().err
    )


def test_environment_that_has_the_dependencies_is_used_as_it_is(
    checkout, tmp_path, layers_asked_for, monkeypatch
):
    monkeypatch.setattr(prepare_module, "SGLANG_DEPENDENCIES", ("json",))
    side = side_of(f"dir:{make_tree(tmp_path / 'a', version='0.5.11')}", checkout)
    with prepare_side(side, root=checkout) as place:
        assert place == PreparedSide(root=tmp_path / "a")
    assert layers_asked_for == []


def test_interpreter_given_is_used_as_it_is(checkout, tmp_path, lacking, layers_asked_for):
    side = side_of(f"dir:{make_tree(tmp_path / 'a', version='0.5.11')}", checkout)
    with prepare_side(replace(side, python=parse_python("/bin/sh")), root=checkout) as place:
        assert (place.python, place.layers) == (Path("/bin/sh"), ())
    assert layers_asked_for == []


def test_interpreter_must_be_a_program(tmp_path):
    with pytest.raises(ToolError, match=r"^--python: must be an interpreter; expected a program"):
        parse_python(str(tmp_path))


def test_release_is_played_in_its_environment(checkout, monkeypatch, capsys):
    environment = PreparedSide(root=Path("/tree"), layers=(Path("/layer"),), note="older")
    monkeypatch.setattr(prepare_module, "environment_for", {"0.5.12": environment}.__getitem__)
    with prepare_side(side_of("pypi:0.5.12", checkout), root=checkout) as place:
        assert (place.root, place.layers) == (Path("/tree"), (Path("/layer"),))
    assert capsys.readouterr().err == "goldentrace: note: older\n"


def test_revision_is_checked_out_with_its_package_alone_and_removed(
    checkout, repository, lacking, layers_asked_for
):
    commit = git(repository, "rev-parse", "HEAD~1").strip()
    side = side_of(f"git:{repository}@HEAD~1", checkout)
    assert side.described == {"side": f"git:{repository}@HEAD~1", "commit": commit}
    with prepare_side(side, root=checkout) as place:
        assert (place.root / "sglang" / "__init__.py").read_text() == "VALUE = 1\n"
        assert not (place.root.parent / "tools").exists()
    assert layers_asked_for == ["0.5.13"]  # from the tag
    assert not place.root.exists()
    assert git(repository, "worktree", "list").count("\n") == 1
    assert git(repository, "status", "--porcelain") == ""


def test_revision_may_hold_an_at_sign(checkout, repository):
    git(repository, "branch", "a@b", "HEAD~1")
    commit = git(repository, "rev-parse", "HEAD").strip()
    assert side_of(f"git:{repository}@HEAD@{{0}}", checkout).commit == commit
    with pytest.raises(ToolError, match=r"must be a git repository"):
        side_of(f"git:{repository}@a@b", checkout)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("git:{0}", "side: must name a revision; expected git:PATH@REV"),
        ("git:{0}@nowhere", "must know the revision; expected a commit, got 'nowhere'"),
        ("git:{0}@--all", "must know the revision; expected a commit, got '--all'"),
        ("git:{0}/python/x@HEAD", "must be a git repository; expected one, got none"),
    ],
)
def test_revision_that_is_none_is_refused(checkout, repository, text, said):
    with pytest.raises(ToolError) as raised:
        side_of(text.format(repository), checkout)
    assert said in str(raised.value)


def test_revision_without_the_package_is_refused(checkout, repository):
    git(repository, "rm", "-q", "-r", "python")
    git(repository, "commit", "-q", "-m", "gone")
    side = side_of(f"git:{repository}@HEAD", checkout)
    with (
        pytest.raises(ToolError, match=r"must hold sglang; expected python/sglang or sglang, got"),
        prepare_side(side, root=checkout),
    ):
        pass
