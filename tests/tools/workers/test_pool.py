"""Worker processes: two hash seeds, and a worker that dies or hangs costs one named scenario."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.errors import ToolError
from tools.workers.launch import SpawnLauncher
from tools.workers.pool import WorkerPool

STAGE = """
import os, sys, time
from tools.workers.protocol import RunResult

class FakeStage:
    def __init__(self, root):
        if root.name == "broken":
            raise ImportError("no such\\nthing")
        if root.name == "dying":
            os._exit(7)

    def play(self, request):
        name = request.scenario.name
        print("noise on stdout")
        if name == "crash":
            os._exit(9)
        if name == "hang":
            time.sleep(60)
        if name == "raise":
            raise ValueError("bad\\nvalue")
        if name == "seeded":
            return RunResult(text=f"same\\n  {hash('x')}\\n", sites="")
        if name == "seed":
            return RunResult(text=os.environ["OMP_NUM_THREADS"], sites="")
        return RunResult(text=f"{name} on {request.device}", sites="{}")

    def builders(self):
        return ("build_a", "build_b")

    def provenance(self, request):
        return {"device": request.device}
"""


@pytest.fixture
def crew(tmp_path, monkeypatch):
    (tmp_path / "fake_stage.py").write_text(STAGE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(root: str = "fine", limit_seconds: float = 30.0) -> WorkerPool:
        launcher = SpawnLauncher(worker_class="fake_stage:FakeStage", root=Path(root))
        return WorkerPool(launcher=launcher, size=1, limit_seconds=limit_seconds)

    return make


def scenarios(*names):
    return [SimpleNamespace(name=name) for name in names]


def play(crew, *names):
    with crew:
        return crew.run(scenarios(*names), device="cpu", on_played=lambda _name: None)


def test_scenarios_come_back_in_the_order_asked(crew):
    playing = play(crew(), "b", "a")
    assert list(playing.by_scenario) == ["b", "a"]
    assert playing.by_scenario["a"].text == "a on cpu"
    assert playing.problems == ()


def test_result_that_depends_on_the_hash_seed_is_a_problem(crew):
    playing = play(crew(), "seeded", "a")
    assert list(playing.by_scenario) == ["a"]
    [problem] = playing.problems
    assert problem.startswith(
        "seeded: must be deterministic over PYTHONHASHSEED=0 and 4242; expected line 2 `"
    )


def test_workers_use_one_thread_and_leave_our_environment_alone(crew, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    assert play(crew(), "seed").by_scenario["seed"].text == "1"
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["PYTHONHASHSEED"] == "77"


def test_exception_names_its_scenario_and_the_others_are_played(crew):
    playing = play(crew(), "raise", "a")
    assert list(playing.by_scenario) == ["a"]
    [problem] = playing.problems
    assert problem == (
        "raise: must be played to the end (PYTHONHASHSEED=0); "
        "expected a trace, got ValueError: bad value"
    )


def test_dying_worker_names_its_scenario_and_is_replaced(crew):
    playing = play(crew(), "a", "crash", "b")
    assert list(playing.by_scenario) == ["a", "b"]
    [problem] = playing.problems
    assert problem == (
        "crash: must be played to the end (PYTHONHASHSEED=0); "
        "expected a trace, got a worker that ended with code 9"
    )


def test_hanging_worker_names_its_scenario_and_is_replaced(crew):
    playing = play(crew(limit_seconds=0.5), "a", "hang", "b")
    assert list(playing.by_scenario) == ["a", "b"]
    [problem] = playing.problems
    assert problem == (
        "hang: must be played to the end (PYTHONHASHSEED=0); "
        "expected a trace, got a worker that gave none in time"
    )


def test_target_that_cannot_be_imported_is_refused(crew):
    with pytest.raises(
        ToolError,
        match=r"^target: must be importable; expected broken, got ImportError: no such thing$",
    ):
        play(crew("broken"), "a")


def test_worker_that_dies_while_starting_is_refused(crew):
    with pytest.raises(ToolError, match=r"^worker: must start; .* ended with code 7$"):
        play(crew("dying"), "a")


def test_each_scenario_is_reported_once(crew):
    heard = []
    with crew() as troupe:
        troupe.run(scenarios("a", "b"), device="cpu", on_played=heard.append)
    assert sorted(heard) == ["a", "b"]


def test_workers_answer_about_the_target_too(crew):
    with crew() as troupe:
        assert troupe.builders() == ("build_a", "build_b")
        assert troupe.provenance(device="cpu") == {"device": "cpu"}


def test_what_scenarios_print_does_not_reach_stdout(crew, capfd):
    play(crew(), "a")
    assert capfd.readouterr().out == ""
