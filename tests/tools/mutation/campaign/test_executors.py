"""Orders are carried out by real worker processes; one that dies costs no result."""

import importlib
import os
import signal
from pathlib import Path

import pytest

from tools.errors import ToolError
from tools.mutation.campaign.driver import TRIES_MAX, run_tasks
from tools.mutation.campaign.ray_executor import open_ray_executor
from tools.workers.launch import WorkerLauncher
from tools.workers.pool import WorkerPool

HERE = Path(__file__).parent


@pytest.fixture
def launcher(monkeypatch):
    # Workers import the stage by name: this file's folder must be on their path.
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    return WorkerLauncher(worker_class="squares:Squares", root=HERE)


def square(number, **options):
    return importlib.import_module("squares").Square(number=number, **options)


def test_tasks_are_spread_and_all_come_back(launcher):
    with WorkerPool(launcher=launcher, size=2, limit_seconds=60) as pool:
        found = dict(run_tasks(pool, [square(number) for number in range(20)]))
    assert {number: square for number, (square, _) in found.items()} == {
        number: number**2 for number in range(20)
    }


def test_task_of_a_worker_that_died_is_given_to_the_next(launcher, tmp_path):
    tasks = [square(1, marker=tmp_path / "marker"), square(5)]
    with WorkerPool(launcher=launcher, size=1, limit_seconds=60) as pool:
        found = dict(run_tasks(pool, tasks))
    assert [found[number][0] for number in (0, 1)] == [1, 25]
    assert (tmp_path / "marker").read_text() == "xx"


def test_task_that_kills_every_worker_is_an_error(launcher, tmp_path):
    task = square(TRIES_MAX, marker=tmp_path / "marker")
    with (
        WorkerPool(launcher=launcher, size=1, limit_seconds=60) as pool,
        pytest.raises(ToolError, match=r"must be carried out within 3 tries"),
    ):
        list(run_tasks(pool, [task]))
    assert (tmp_path / "marker").read_text() == "x" * TRIES_MAX


def test_worker_killed_from_outside_costs_no_result(launcher):
    with WorkerPool(launcher=launcher, size=2, limit_seconds=60) as pool:
        [(_, (_, victim))] = list(run_tasks(pool, [square(1)]))
        found = {}
        for number, result in run_tasks(pool, [square(number) for number in range(500)]):
            if not found:
                os.kill(victim, signal.SIGKILL)
            found[number] = result
    assert len(found) == 500


@pytest.mark.slow
def test_ray_gives_the_task_of_a_killed_worker_to_another(launcher, tmp_path):
    pytest.importorskip("ray")
    tasks = [
        square(3, marker=tmp_path / "marker", kills_parent=True),
        *(square(number) for number in range(30)),
    ]
    with open_ray_executor(launcher, address="local", size=2, limit_seconds=60) as cluster:
        found = dict(run_tasks(cluster, tasks))
    assert [found[number][0] for number in range(31)] == [9, *(n**2 for n in range(30))]
    # Three Ray workers were killed, each in the middle of its task.
    assert (tmp_path / "marker").read_text() == "xxxx"
