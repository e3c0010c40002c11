"""The gate with kept runs: what is run again, what is said about it, and that no red is lost."""

import json
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from tools.cli import run_command, run_guarded
from tools.gate import first_difference
from tools.sides import open as open_sides
from tools.sides.kept.store import RunStore
from tools.workers.protocol import Reach, ReadImportReach, RunResult

SOURCE = "def stack_a():\n    return 656\n\n\ndef stack_b():\n    return 656\n"


def reach(*names):
    return Reach(
        functions={"assembler/stacks.py": names} if names else {},
        opened=(),
        variables=(),
        unsure=(),
    )


def answer(result, task, *, seed):
    """Add what a run reaches: scenario ``a`` executes ``stack_a``, and so on."""
    if isinstance(task, ReadImportReach):
        return reach("")
    if isinstance(result, RunResult):
        return replace(result, reach=reach(f"stack_{task.scenario.name}"), seconds=1.0)
    return result


@pytest.fixture
def judge(checkout, fake_pool, tmp_path, capsys):
    """Run a command on the checkout with kept runs; return the exit code and the verdict."""
    (checkout.root / "assembler" / "stacks.py").write_text(SOURCE)
    checkout.commit()

    def session(*, target, limit_seconds, has_audit_pool):
        @contextmanager
        def open_pool(place):
            played = checkout.traces if place.root == checkout.root else checkout.base_traces
            yield fake_pool(traces=played, known_builders=checkout.builders, gpu="", answer=answer)

        return replace(
            checkout.session(target=target, limit_seconds=limit_seconds),
            open_pool=open_pool,
            open_audit_pool=open_pool if has_audit_pool else None,
            open_reach_pool=open_pool,
            store=RunStore(tmp_path / "recordings"),
        )

    def run(command, *arguments, has_audit_pool=True):
        words = [command, "--format", "json", *arguments]
        opened = partial(session, has_audit_pool=has_audit_pool)
        code = run_guarded(lambda: run_command(words, open_session=opened))
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def gate(judge):
    """Judge the checkout by the gate; return the exit code and the verdict."""
    return partial(judge, "gate")


def edit(checkout, old, new):
    path = checkout.root / "assembler" / "stacks.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_first_gate_runs_everything(gate):
    code, verdict = gate()
    assert code == 0
    assert (verdict["selected"], verdict["kept"], verdict["selection"]) == (["a", "b"], [], "")


def test_unchanged_tree_passes_without_a_run(gate):
    gate()
    code, verdict = gate()
    assert code == 0
    assert (verdict["selected"], verdict["kept"]) == ([], ["a", "b"])
    assert verdict["selection"] == "0 of 2 were run now: 2 were recorded before, from the same tree"
    assert verdict["scenarios"]["played"] == 2


def test_changed_function_runs_its_scenario_and_finds_what_it_changes(gate, checkout, narrowed):
    checkout.traces["a"], wide = checkout.base_traces["a"], narrowed
    gate()
    edit(checkout, "return 656", "return 576")
    checkout.traces["a"] = wide
    code, verdict = gate()
    assert code == 1
    assert (verdict["selected"], verdict["kept"]) == (["a"], ["b"])
    assert verdict["scenarios"]["names_changed"] == ["a"]
    assert verdict["causes"][0]["parameter"] == "override_kv_cache_dim"
    assert verdict["selection"] == (
        "1 of 2 was run now: 1 does not reach a changed line (assembler/stacks.py:stack_a)"
    )


def test_workers_of_the_head_start_before_the_kept_runs_of_the_base_are_read(
    gate, checkout, fake_pool, monkeypatch
):
    sides = ("--base", "HEAD", "--head", "worktree")
    happened = []
    read = open_sides.read_recording

    def start(pool, task_num, *, in_turns):
        happened.append((task_num, in_turns))

    monkeypatch.setattr(fake_pool, "start", start)
    monkeypatch.setattr(
        open_sides, "read_recording", lambda *of: happened.append("read") or read(*of)
    )
    gate(*sides)
    # The base has to be run first: only then is it known what the head needs.
    assert [one for one in happened if one != "read"] == []
    happened.clear()
    edit(checkout, "return 656", "return 576")
    code, verdict = gate(*sides)
    assert (code, verdict["selected"]) == (0, ["a"])
    assert happened[0] == (1, True)
    assert happened.count("read") == 4


UNUSED = "\n\ndef unused():\n    return 1\n"
UNGUARDED = "Not guarded: on the base no scenario executes assembler/stacks.py:unused"


def test_changed_function_that_no_scenario_executes_is_named_and_passes(gate, checkout):
    sides = ("--base", "HEAD", "--head", "worktree")
    edit(checkout, SOURCE, SOURCE + UNUSED)
    checkout.commit()
    gate(*sides)
    edit(checkout, "return 1", "return 2")
    code, verdict = gate(*sides)
    assert (code, verdict["verdict"], verdict["selected"]) == (0, "pass", [])
    assert verdict["selection"] == (
        "0 of 2 were run now: 2 do not reach a changed line (assembler/stacks.py:unused).\n"
        + UNGUARDED
    )
    edit(checkout, "return 656", "return int(656)")
    code, verdict = gate(*sides)
    assert (code, verdict["selected"]) == (0, ["a"])
    assert verdict["selection"].endswith(f"with equal traces.\n{UNGUARDED}")
    assert gate(*sides, "--all")[1]["selection"].endswith(UNGUARDED)


def test_changed_function_that_a_scenario_executes_is_not_called_unguarded(gate, checkout):
    sides = ("--base", "HEAD", "--head", "worktree")
    gate(*sides)
    edit(checkout, "return 656", "return int(656)")
    _, verdict = gate(*sides)
    assert verdict["selected"] == ["a"]
    assert "Not guarded" not in verdict["selection"]


def test_named_scenarios_and_goldens_tell_nothing_about_what_is_guarded(gate, checkout):
    edit(checkout, SOURCE, SOURCE + UNUSED)
    checkout.commit()
    gate("--base", "HEAD", "--head", "worktree")
    edit(checkout, "return 1", "return 2")
    _, verdict = gate("--base", "HEAD", "--head", "worktree")
    assert UNGUARDED in verdict["selection"]
    for arguments in (("a", "b", "--base", "HEAD", "--head", "worktree"), ()):
        _, verdict = gate(*arguments)
        assert verdict["selection"] == (
            "0 of 2 were run now: 2 do not reach a changed line (assembler/stacks.py:unused)"
        )


def test_comment_runs_nothing(gate, checkout):
    gate()
    edit(checkout, "def stack_b", "# The second one.\ndef stack_b")
    code, verdict = gate()
    assert code == 0
    assert verdict["selected"] == []
    assert verdict["selection"] == (
        "0 of 2 were run now: 2 do not reach a changed line (no code differs)"
    )


def test_code_outside_functions_runs_everything(gate, checkout):
    gate()
    edit(checkout, "def stack_a", "LIMIT = 4\n\n\ndef stack_a")
    _, verdict = gate()
    assert verdict["selected"] == ["a", "b"]
    assert verdict["selection"] == (
        "2 of 2 were run now: assembler/stacks.py: code outside functions has changed"
    )


def test_function_changed_without_an_effect_is_run_under_one_hash_seed(gate, checkout):
    gate()
    edit(checkout, "return 656", "return int(656)")
    code, verdict = gate()
    assert code == 0
    assert verdict["selected"] == ["a"]
    assert verdict["selection"] == (
        "1 of 2 was run now: 1 does not reach a changed line (assembler/stacks.py:stack_a)"
        "; 1 under one of two hash seeds in turn, with equal traces"
    )


def test_first_cause_is_told_at_once(gate, checkout, make_trace, monkeypatch):
    said = []
    monkeypatch.setattr(first_difference, "print_status", said.append)
    gate()
    gate("--all")
    checkout.traces["a"] = "it fell over"
    gate("--all")
    assert said == []
    checkout.traces["a"] = make_trace("a", width=576)
    checkout.traces["b"] = make_trace("b", width=576)
    gate("--all")
    change = "argument_changed override_kv_cache_dim 656 -> 576 at assembler/stacks.py:123"
    assert said == [f"a differs: {change}; the verdict follows"]


def test_run_that_differs_is_run_under_both_hash_seeds(gate, checkout, make_trace):
    gate()
    edit(checkout, "return 656", "return int(656)")
    checkout.traces["a"] = (make_trace("a", width=576), make_trace("a"))
    code, verdict = gate()
    assert code == 2
    assert "must be deterministic" in verdict["problems"][0]


def test_all_runs_everything_under_one_hash_seed_where_a_run_is_kept(gate):
    gate()
    _, verdict = gate("--all")
    assert (verdict["selected"], verdict["kept"]) == (["a", "b"], [])
    assert verdict["selection"] == (
        "2 of 2 were run now; 2 under one of two hash seeds in turn, with equal traces"
    )


def test_fresh_uses_no_kept_run_and_runs_under_both_hash_seeds(gate, checkout, make_trace):
    gate()
    checkout.traces["a"] = (make_trace("a"), make_trace("a", width=576))
    assert gate()[0] == 0
    code, verdict = gate("--fresh")
    assert code == 2
    assert "must be deterministic" in verdict["problems"][0]
    assert (verdict["kept"], verdict["selection"]) == ([], "")


def test_golden_changed_after_the_run_is_compared_with_the_kept_run(gate, checkout, make_trace):
    gate()
    checkout.write_golden(make_trace("b", width=576))
    code, verdict = gate()
    assert code == 1
    assert (verdict["selected"], verdict["kept"]) == ([], ["a", "b"])
    assert verdict["scenarios"]["names_changed"] == ["b"]


def test_scenario_that_is_not_deterministic_is_never_kept(gate, checkout, make_trace):
    checkout.traces["a"] = (make_trace("a"), make_trace("a", width=576))
    assert gate()[0] == 2
    code, verdict = gate()
    assert code == 2
    assert verdict["kept"] == ["b"]
    assert "must be deterministic" in verdict["problems"][0]


@pytest.mark.parametrize(
    ("has_audit_pool", "ran", "kept"),
    [(False, [], ["a", "b"]), (True, ["a", "b"], [])],
    ids=["of the gate's recordings", "of recordings of its own"],
)
def test_audit_uses_the_runs_of_the_gate_where_it_reads_the_same(
    judge, checkout, broken_trace, has_audit_pool, ran, kept
):
    checkout.traces["a"] = broken_trace("a")
    judge("gate")
    code, verdict = judge("audit", has_audit_pool=has_audit_pool)
    assert code == 1
    assert (verdict["selected"], verdict["kept"]) == (ran, kept)
    assert [cause["kind"] for cause in verdict["causes"]] == ["stale_after_restore"]
