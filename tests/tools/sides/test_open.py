"""Runs of an open side that are kept: under which hash seeds, and in which order."""

from types import SimpleNamespace

import pytest

from tools.sides.kept.keeper import SideKeeper
from tools.sides.kept.store import RunStore
from tools.sides.kept.trees import TreeContent
from tools.sides.open import OpenSide
from tools.workers.protocol import Reach, ReadImportReach, RunResult

NOTHING = Reach(functions={}, opened=(), variables=(), unsure=())


@pytest.fixture
def run_kept(fake_pool, tmp_path):
    """Run scenarios on a side, keep the runs; return the results and (scenario, seed) of each."""

    def run(traces, *, keeps_in_turns, release="1"):
        runs = []

        def answer(result, task, *, seed):
            if isinstance(task, ReadImportReach):
                return NOTHING
            runs.append((task.scenario.name, seed))
            return result

        def with_reach(result, task, *, seed):
            result = answer(result, task, seed=seed)
            if isinstance(result, RunResult):
                seconds = 9.0 if task.scenario.name == "b" else 1.0
                return RunResult(
                    text=result.text, sites=result.sites, reach=NOTHING, seconds=seconds
                )
            return result

        pool = fake_pool(traces=traces, known_builders=(), gpu="", answer=with_reach)
        opened = OpenSide(
            side=SimpleNamespace(text="pypi:1"),
            prepared=SimpleNamespace(root=tmp_path),
            pool=pool,
            reach_pool=pool,
            keeper=SideKeeper(
                store=RunStore(tmp_path / "recordings"),
                side="pypi:1",
                target="sglang",
                context="c",
                tree=TreeContent(root=tmp_path, release=release, files={}),
            ),
            keeps_in_turns=keeps_in_turns,
        )
        scenarios = tuple(SimpleNamespace(name=name) for name in traces)
        plan = opened.plan(
            scenarios, device="sim", lists_builders=False, runs_all=False, keeps="all"
        )
        return plan.run(), runs

    return run


def test_scenarios_of_a_package_take_turns_under_the_hash_seeds(run_kept, make_trace):
    traces = {"a": make_trace("a"), "b": make_trace("b"), "c": make_trace("c")}
    results, runs = run_kept(traces, keeps_in_turns=True)
    assert runs == [("a", 0), ("b", 4242), ("c", 0)]
    assert list(results.recordings) == ["a", "b", "c"]
    assert results.problems == ()


def test_runs_of_our_own_code_are_under_both_hash_seeds(run_kept, make_trace):
    traces = {"a": make_trace("a"), "b": (make_trace("b"), make_trace("b", width=576))}
    results, runs = run_kept(traces, keeps_in_turns=False)
    assert runs == [("a", 0), ("a", 4242), ("b", 0), ("b", 4242)]
    assert list(results.recordings) == ["a"]
    assert "must be deterministic over PYTHONHASHSEED=0 and 4242" in results.problems[0]


def test_run_under_one_hash_seed_stands_for_the_same_tree(run_kept, make_trace):
    traces = {"a": make_trace("a"), "b": make_trace("b")}
    run_kept(traces, keeps_in_turns=True)
    results, runs = run_kept(traces, keeps_in_turns=True)
    assert (results.kept, runs) == (("a", "b"), [])


def test_run_that_fails_under_its_hash_seed_is_named_and_not_kept(run_kept, make_trace):
    traces = {"a": make_trace("a"), "b": "it fell over"}
    results, _ = run_kept(traces, keeps_in_turns=True)
    assert results.problems == (
        "b: must run to the end (PYTHONHASHSEED=4242); expected a trace, got it fell over",
    )
    assert run_kept(traces, keeps_in_turns=True)[1] == [("b", 0)]


def test_scenario_has_the_same_hash_seed_on_every_release_however_long_it_runs(
    run_kept, make_trace
):
    traces = {"a": make_trace("a"), "b": make_trace("b")}
    run_kept(traces, keeps_in_turns=True)
    _, runs = run_kept(traces, keeps_in_turns=True, release="2")
    assert runs == [("a", 0), ("b", 4242)]
