"""Files of kept runs: whole or not there."""

import os

import pytest

from tools.sides.kept.store import KeptRun, KeptTree, RunStore, known_variables
from tools.workers.protocol import Reach

REACH = Reach(functions={"pkg/a.py": ("", "f")}, opened=(), variables=("HOME",), unsure=())
RUN = KeptRun(text="{}\n", sites="", reason="", reach=REACH, seconds=1.5)
TREE = KeptTree(
    side="pypi:0.5.23",
    target="sglang",
    release="0.5.23",
    files={"pkg/a.py": "12"},
    texts={"pkg/a.py": "x = 1\n"},
    imports=REACH,
    variables={"HOME": "34"},
    builders=("build_stack",),
)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "recordings")


def test_run_and_tree_come_back_as_they_were_written(store):
    folder = store.folder("context", "tree")
    store.write_tree(folder, TREE)
    store.write_run(folder, "scenario", RUN)
    assert store.read_tree(folder) == TREE
    assert store.read_run(folder, "scenario") == RUN
    assert store.read_run(folder, "another") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
        lambda content: b"\0" * len(content),
    ],
    ids=["cut short", "empty", "one bit", "zeros"],
)
def test_damaged_file_is_taken_for_none(store, damage):
    folder = store.folder("context", "tree")
    store.write_run(folder, "scenario", RUN)
    [path] = folder.glob("*.run")
    path.write_bytes(damage(path.read_bytes()))
    assert store.read_run(folder, "scenario") is None
    store.write_run(folder, "scenario", RUN)
    assert store.read_run(folder, "scenario") == RUN


def test_file_of_another_kind_is_taken_for_none(store):
    folder = store.folder("context", "tree")
    store.write_tree(folder, TREE)
    (folder / "tree.bin").rename(folder / "scenario.run")
    assert store.read_run(folder, "scenario") is None


def test_nothing_half_written_is_left(store):
    folder = store.folder("context", "tree")
    store.write_run(folder, "scenario", RUN)
    assert [path.name for path in folder.iterdir()] == ["scenario.run"]


def test_cache_that_cannot_be_written_keeps_nothing(tmp_path):
    (tmp_path / "recordings").write_text("a file")
    store = RunStore(tmp_path / "recordings")
    store.write_run(store.folder("context", "tree"), "scenario", RUN)
    assert store.read_run(store.folder("context", "tree"), "scenario") is None


def test_oldest_trees_are_removed_above_the_limit(store):
    for age, name in enumerate(("new", "middle", "old")):
        folder = store.folder("context", name)
        store.write_tree(folder, TREE)
        os.utime(folder, (1000 - age, 1000 - age))
    size = sum(path.stat().st_size for path in store.folder("context", "new").iterdir())
    store.trim(2 * size)
    assert [path.name for path in store.trees("context")] == ["new", "middle"]
    store.mark_used(store.folder("context", "middle"))
    store.trim(size)
    assert [path.name for path in store.trees("context")] == ["middle"]


def test_trees_are_listed_with_their_sides(store):
    folder = store.folder("context", "tree")
    store.write_tree(folder, TREE)
    store.write_run(folder, "scenario", RUN)
    [listed] = store.list_folders()
    assert (listed.tree.side, listed.run_num) == ("pypi:0.5.23", 1)
    assert listed.size == sum(path.stat().st_size for path in folder.iterdir())
    store.clear()
    assert store.list_folders() == []


def test_variables_are_known_by_their_values(monkeypatch):
    monkeypatch.setenv("SGLANG_TEST", "1")
    before = known_variables(("SGLANG_TEST", "SGLANG_ABSENT"))
    assert before["SGLANG_ABSENT"] == ""
    assert known_variables(("SGLANG_TEST", "SGLANG_ABSENT")) == before
    monkeypatch.setenv("SGLANG_TEST", "2")
    assert known_variables(("SGLANG_TEST", "SGLANG_ABSENT")) != before
