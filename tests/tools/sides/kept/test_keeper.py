"""Kept runs of one side: found for the same tree and for one that the change does not reach."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tools.sides.kept import keeper as keepers
from tools.sides.kept.keeper import SideKeeper
from tools.sides.kept.selection import add_unexecuted, describe_selection
from tools.sides.kept.store import RunStore
from tools.sides.kept.trees import read_tree
from tools.workers.protocol import Reach, RunResult
from traces.schema.canonical import parse_sites, render_sites
from traces.schema.model import Location, Sites

SOURCE = "def build():\n    return 1\n\n\ndef attach():\n    return 2\n"


@dataclass(frozen=True)
class FakeScenario:
    name: str


A, B = FakeScenario("a"), FakeScenario("b")


def reach(name, *, variables=()):
    return Reach(functions={"pkg/stacks.py": (name,)}, opened=(), variables=variables, unsure=())


def sites(line):
    place = Location(file="pkg/stacks.py", line=line)
    return render_sites(Sites(calls={"attach#1": place}, definitions={}, events=(None,)))


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "stacks.py").write_text(SOURCE)
    return tmp_path


@pytest.fixture
def keeper_of(root, tmp_path):
    """Return the keeper of the tree as it is now."""

    def make(context="context", *, root=root):
        return SideKeeper(
            store=RunStore(tmp_path / "recordings"),
            side="dir:here",
            target="sglang",
            context=context,
            tree=read_tree(root, folder="pkg", release="1.0"),
        )

    return make


@pytest.fixture
def kept(keeper_of):
    """Scenario ``a`` has run ``build``, ``b`` ``attach``."""
    keep(keeper_of())


def keep(keeper, *, variables=()):
    keeper.keep(
        {
            "a": RunResult(text="trace a", sites="", seconds=2.0),
            "b": RunResult(text="trace b", sites=sites(5), seconds=1.0),
        },
        {"a": reach("build"), "b": reach("attach", variables=variables)},
        scenarios=[A, B],
        imports=reach(""),
        builders=("build",),
    )


def edit(root, old, new):
    path = root / "pkg" / "stacks.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_same_tree_needs_no_run(kept, keeper_of):
    found = keeper_of().find([A, B])
    assert {name: one.run.text for name, one in found.by_scenario.items()} == {
        "a": "trace a",
        "b": "trace b",
    }
    assert found.builders == ("build",)
    assert (
        describe_selection(found, total=2)
        == "0 of 2 were run now: 2 were recorded before, from the same tree"
    )


def test_changed_function_is_run_where_it_was_executed(kept, keeper_of, root):
    edit(root, "return 1", "return 3")
    found = keeper_of().find([A, B])
    assert list(found.by_scenario) == ["b"]
    assert found.seconds == {"a": 2.0, "b": 1.0}
    assert describe_selection(found, total=2) == (
        "1 of 2 was run now: 1 does not reach a changed line (pkg/stacks.py:build)"
    )


def test_changed_module_is_run_everywhere(kept, keeper_of, root):
    edit(root, "def build()", "LIMIT = 1\n\n\ndef build()")
    found = keeper_of().find([A, B])
    assert not found.by_scenario
    assert found.builders is None
    assert describe_selection(found, total=2) == (
        "2 of 2 were run now: pkg/stacks.py: code outside functions has changed"
    )


def test_comment_needs_no_run_and_lines_move(kept, keeper_of, root):
    edit(root, "def attach()", "# One.\n# Two.\ndef attach()")
    found = keeper_of().find([A, B])
    assert describe_selection(found, total=2) == (
        "0 of 2 were run now: 2 do not reach a changed line (no code differs)"
    )
    moved = parse_sites(found.by_scenario["b"].run.sites)
    assert moved.calls == {"attach#1": Location(file="pkg/stacks.py", line=7)}


def test_another_context_knows_nothing(kept, keeper_of):
    found = keeper_of("other").find([A, B])
    assert not found.by_scenario
    assert describe_selection(found, total=2) == ""


def test_scenario_of_another_definition_is_run(kept, keeper_of):
    other = replace(A, name="c")
    assert not keeper_of().find([other]).by_scenario


def test_variable_that_a_run_read_must_have_its_value(keeper_of, monkeypatch):
    monkeypatch.setenv("SGLANG_WIDTH", "656")
    keep(keeper_of(), variables=("SGLANG_WIDTH",))
    assert len(keeper_of().find([A, B]).by_scenario) == 2
    monkeypatch.setenv("SGLANG_WIDTH", "576")
    assert not keeper_of().find([A, B]).by_scenario


def test_runs_under_another_value_do_not_come_back_with_a_new_run(keeper_of, monkeypatch):
    monkeypatch.setenv("SGLANG_WIDTH", "656")
    keep(keeper_of(), variables=("SGLANG_WIDTH",))
    monkeypatch.setenv("SGLANG_WIDTH", "576")
    keeper_of().keep(
        {"a": RunResult(text="new a", sites="")},
        {"a": reach("build")},
        scenarios=[A],
        imports=reach(""),
        builders=("build",),
    )
    found = keeper_of().find([A, B])
    assert {name: one.run.text for name, one in found.by_scenario.items()} == {"a": "new a"}


def test_run_without_a_known_reach_is_not_kept(keeper_of):
    keeper_of().keep(
        {"a": RunResult(text="trace a", sites="")},
        {},
        scenarios=[A],
        imports=reach(""),
        builders=(),
    )
    assert not keeper_of().find([A]).by_scenario


def test_refusal_is_kept_with_its_reason(keeper_of):
    keeper_of().keep(
        {"a": "no class Pool"}, {"a": reach("build")}, scenarios=[A], imports=reach(""), builders=()
    )
    assert keeper_of().find([A]).by_scenario["a"].run.reason == "no class Pool"


UNUSED = "\n\ndef unused():\n    return 3\n"


@pytest.fixture
def base(keeper_of, root, tmp_path):
    """The keeper of a base with a function that nothing executes; the runs are kept."""
    edit(root, SOURCE, SOURCE + UNUSED)
    shutil.copytree(root / "pkg", tmp_path / "base" / "pkg")
    keeper = keeper_of(root=tmp_path / "base")
    keep(keeper)
    return keeper


def test_changed_function_that_no_run_executes_is_named(base, keeper_of, root):
    edit(root, "return 1", "return 4")
    assert base.unexecuted(keeper_of().tree, [A, B]) == ()
    edit(root, "return 3", "return 5")
    assert base.unexecuted(keeper_of().tree, [A, B]) == ("pkg/stacks.py:unused",)


def test_function_is_not_named_where_the_runs_are_not_all_known(base, keeper_of, root, monkeypatch):
    edit(root, "return 3", "return 5")
    head = keeper_of().tree
    assert base.unexecuted(head, [A, B]) == ("pkg/stacks.py:unused",)
    assert base.unexecuted(head, [A, B, FakeScenario("c")]) == ()
    assert base.unexecuted(replace(head, release="1.1"), [A, B]) == ()
    monkeypatch.setattr(keepers, "MAX_MODULES", 0)
    assert base.unexecuted(head, [A, B]) == ()


def test_function_is_not_named_by_runs_under_another_value_of_a_variable(
    base, keeper_of, root, monkeypatch
):
    monkeypatch.setenv("SGLANG_WIDTH", "656")
    keep(base, variables=("SGLANG_WIDTH",))
    edit(root, "return 3", "return 5")
    assert base.unexecuted(keeper_of().tree, [A, B]) == ("pkg/stacks.py:unused",)
    monkeypatch.setenv("SGLANG_WIDTH", "576")
    assert base.unexecuted(keeper_of().tree, [A, B]) == ()


def test_functions_that_nothing_executes_are_told_on_a_line_of_their_own():
    assert add_unexecuted("0 of 2 were run now", []) == "0 of 2 were run now"
    assert add_unexecuted("0 of 2 were run now", ["a.py:f"]) == (
        "0 of 2 were run now.\nNot guarded: on the base no scenario executes a.py:f"
    )
    assert add_unexecuted("", ["a.py:f", "a.py:g", "b.py:f", "b.py:g", "c.py:f"]) == (
        "Not guarded: on the base no scenario executes a.py:f, a.py:g, b.py:f and 2 more"
    )
