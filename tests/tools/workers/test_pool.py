"""Worker processes: hash seeds, order, back-pressure, and what a dead or hung worker costs."""

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.errors import ToolError
from tools.workers.launch import WorkerLauncher
from tools.workers.pool import WorkerPool
from tools.workers.protocol import ListBuilders, ReadProvenance, RunScenario, TaskFailed
from tools.workers.results import HASH_SEEDS, run_scenarios

WORKER = """
import os, sys, time
from tools.workers.protocol import ListBuilders, ReadProvenance, RunResult, RunScenario

class FakeWorker:
    def __init__(self, root):
        if root.name == "broken":
            raise ImportError("no such\\nthing")
        if root.name == "dying":
            os._exit(7)

    @property
    def handlers(self):
        return {
            RunScenario: self.run,
            ListBuilders: lambda task: ("build_a", "build_b"),
            ReadProvenance: lambda task: {"device": task.device},
        }

    def run(self, request):
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
"""


@pytest.fixture
def make_pool(tmp_path, monkeypatch):
    (tmp_path / "fake_worker.py").write_text(WORKER)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(root: str = "fine", limit_seconds: float = 30.0) -> WorkerPool:
        launcher = WorkerLauncher(worker_class="fake_worker:FakeWorker", root=Path(root))
        return WorkerPool(launcher=launcher, size=1, limit_seconds=limit_seconds, seeds=HASH_SEEDS)

    return make


def scenarios(*names):
    return [SimpleNamespace(name=name) for name in names]


def run(pool, *names):
    with pool:
        return run_scenarios(pool, scenarios(*names), device="cpu", on_run=lambda _name: None)


def test_scenarios_come_back_in_the_order_asked(make_pool):
    results = run(make_pool(), "b", "a")
    assert list(results.by_scenario) == ["b", "a"]
    assert results.by_scenario["a"].text == "a on cpu"
    assert results.problems == ()


def test_result_that_depends_on_the_hash_seed_is_a_problem(make_pool):
    results = run(make_pool(), "seeded", "a")
    assert list(results.by_scenario) == ["a"]
    [problem] = results.problems
    assert problem.startswith(
        "seeded: must be deterministic over PYTHONHASHSEED=0 and 4242; expected line 2 `"
    )


def test_workers_use_one_thread_and_leave_our_environment_alone(make_pool, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    assert run(make_pool(), "seed").by_scenario["seed"].text == "1"
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["PYTHONHASHSEED"] == "77"


def test_exception_names_its_scenario_and_the_others_are_played(make_pool):
    results = run(make_pool(), "raise", "a")
    assert list(results.by_scenario) == ["a"]
    [problem] = results.problems
    assert problem == (
        "raise: must run to the end (PYTHONHASHSEED=0); expected a trace, got ValueError: bad value"
    )


def test_dying_worker_names_its_scenario_and_is_replaced(make_pool):
    results = run(make_pool(), "a", "crash", "b")
    assert list(results.by_scenario) == ["a", "b"]
    [problem] = results.problems
    assert problem == (
        "crash: must run to the end (PYTHONHASHSEED=0); "
        "expected a trace, got a worker that ended with code 9"
    )


def test_hanging_worker_names_its_scenario_and_is_replaced(make_pool):
    results = run(make_pool(limit_seconds=0.5), "a", "hang", "b")
    assert list(results.by_scenario) == ["a", "b"]
    [problem] = results.problems
    assert problem == (
        "hang: must run to the end (PYTHONHASHSEED=0); "
        "expected a trace, got a worker that gave none in time"
    )


def test_target_that_cannot_be_imported_is_refused(make_pool):
    with pytest.raises(
        ToolError,
        match=r"^target: must be importable; expected broken, got ImportError: no such thing$",
    ):
        run(make_pool("broken"), "a")


def test_worker_that_dies_while_starting_is_refused(make_pool):
    with pytest.raises(ToolError, match=r"^worker: must start; .* ended with code 7$"):
        run(make_pool("dying"), "a")


def test_each_scenario_is_reported_once(make_pool):
    heard = []
    with make_pool() as pool:
        run_scenarios(pool, scenarios("a", "b"), device="cpu", on_run=heard.append)
    assert sorted(heard) == ["a", "b"]


def test_tasks_in_turns_run_once_under_alternating_hash_seeds(make_pool):
    tasks = [RunScenario(scenario=one, device="auto") for one in scenarios("a", "b", "c")]
    with make_pool() as pool:
        replies = list(pool.results(tasks, in_turns=True))
    assert sorted((reply.number, reply.seed) for reply in replies) == [
        (0, HASH_SEEDS[0]),
        (1, HASH_SEEDS[1]),
        (2, HASH_SEEDS[0]),
    ]


def test_workers_answer_about_the_target_too(make_pool):
    with make_pool() as pool:
        assert pool.call(ListBuilders()) == ("build_a", "build_b")
        assert pool.call(ReadProvenance(device="cpu")) == {"device": "cpu"}


def test_what_scenarios_print_does_not_reach_stdout(make_pool, capfd):
    run(make_pool(), "a")
    assert capfd.readouterr().out == ""


COUNTING = """
import os
from dataclasses import dataclass
from pathlib import Path
from tools.workers.protocol import Task

@dataclass(frozen=True, slots=True, kw_only=True)
class SetOffset(Task[int]):
    offset: int

@dataclass(frozen=True, slots=True, kw_only=True)
class Square(Task[tuple[int, int]]):
    number: int
    deaths: Path | None = None
    death_num: int = 0

class CountingWorker:
    def __init__(self, root):
        self.offset = 0

    @property
    def handlers(self):
        return {SetOffset: self.set_offset, Square: self.square}

    def set_offset(self, task):
        if task.offset < 0:
            raise ValueError("negative")
        self.offset = task.offset

    def square(self, task):
        if task.deaths is not None:
            with task.deaths.open("a") as stream:
                stream.write("x")
            if task.deaths.stat().st_size <= task.death_num:
                os._exit(3)
        return task.number ** 2 + self.offset, os.getpid()
"""


@pytest.fixture
def counting(tmp_path, monkeypatch):
    """Return the module of a worker class for tasks of our own, and a pool of such workers."""
    (tmp_path / "counting_worker.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(str(tmp_path))
    launcher = WorkerLauncher(worker_class="counting_worker:CountingWorker", root=tmp_path)
    with WorkerPool(launcher=launcher, size=2, limit_seconds=30.0) as pool:
        yield SimpleNamespace(
            pool=pool, module=importlib.import_module("counting_worker"), folder=tmp_path
        )
    sys.modules.pop("counting_worker")


def squares(counting, numbers):
    return [counting.module.Square(number=number) for number in numbers]


def test_tasks_of_our_own_run_once_each_and_are_numbered(counting):
    replies = list(counting.pool.results(squares(counting, range(20))))
    assert {reply.number: reply.result[0] for reply in replies} == {n: n**2 for n in range(20)}
    assert len(replies) == 20


@pytest.mark.parametrize(
    ("task_num", "in_turns", "started"),
    [
        (0, False, []),
        (1, False, [0, 4242]),
        (9, False, [0, 0, 4242, 4242]),
        (0, True, []),
        (1, True, [0]),
        (3, True, [0, 0, 4242]),
        (9, True, [0, 0, 4242, 4242]),
    ],
)
def test_workers_that_tasks_need_can_be_started_early(counting, task_num, in_turns, started):
    pool = replace(counting.pool, seeds=(0, 4242), _workers=[])
    with pool:
        pool.start(task_num, in_turns=in_turns)
        pool.start(task_num, in_turns=in_turns)
        early = [worker.process.process.pid for worker in pool._workers]
        assert sorted(worker.seed for worker in pool._workers) == started
        tasks = squares(counting, range(task_num))
        replies = list(pool.results(tasks, in_turns=in_turns))
        assert {reply.number for reply in replies} == set(range(task_num))
        # None is started besides them.
        assert [worker.process.process.pid for worker in pool._workers] == early


def test_tasks_are_drawn_only_as_workers_become_free(counting):
    drawn = []

    def tasks():
        for task in squares(counting, range(50)):
            drawn.append(task)
            yield task

    for answered, _reply in enumerate(counting.pool.results(tasks())):
        assert len(drawn) <= answered + 1 + 2 * counting.pool.size


def test_broadcast_reaches_every_worker_and_its_replacement(counting):
    pool, module = counting.pool, counting.module
    pool.broadcast(module.SetOffset(offset=100))
    marker = counting.folder / "deaths"
    tasks = [*squares(counting, range(6)), module.Square(number=6, deaths=marker, death_num=1)]
    found = {reply.number: reply.result[0] for reply in pool.results(tasks, tries=2)}
    assert found == {n: n**2 + 100 for n in range(7)}
    pool.broadcast(module.SetOffset(offset=200))
    assert pool.call(module.Square(number=3))[0] == 209


def test_broadcast_that_fails_is_refused(counting):
    counting.pool.broadcast(counting.module.SetOffset(offset=-1))
    with pytest.raises(ToolError, match=r"^worker: must run SetOffset; .* ValueError: negative$"):
        counting.pool.call(counting.module.Square(number=3))


def test_task_that_kills_every_worker_is_lost_after_its_tries(counting):
    marker = counting.folder / "deaths"
    tasks = [counting.module.Square(number=2, deaths=marker, death_num=9)]
    [reply] = counting.pool.results(tasks, tries=3)
    assert reply.result == TaskFailed(reason="a worker that ended with code 3", is_lost=True)
    assert marker.read_text() == "xxx"


def test_results_left_unread_do_not_answer_later_tasks(counting):
    for _reply in counting.pool.results(squares(counting, range(8))):
        break
    found = {r.number: r.result[0] for r in counting.pool.results(squares(counting, [7, 8, 9]))}
    assert found == {0: 49, 1: 64, 2: 81}


def test_task_without_handler_is_an_error(counting):
    with pytest.raises(ToolError, match="CountingWorker has no handler for ListBuilders"):
        counting.pool.call(ListBuilders())
