"""Orders are carried out by real worker processes; one that dies costs no result."""

import importlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tools.errors import ToolError
from tools.mutation.campaign.executors import TRIES_MAX, LocalExecutor, open_local_executor
from tools.mutation.campaign.ray_executor import open_ray_executor
from tools.workers.launch import IsolatedLauncher

HERE = Path(__file__).parent


@pytest.fixture
def launcher(monkeypatch):
    # Workers import the stage by name: this file's folder must be on their path.
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    return IsolatedLauncher(
        worker_class="squares:Squares", root=HERE, python=Path(sys.executable), layers=()
    )


def square(number, **options):
    return importlib.import_module("squares").Square(number=number, **options)


def test_orders_are_spread_and_all_come_back(launcher):
    with open_local_executor(launcher, size=2, limit_seconds=60) as hands:
        found = dict(hands.results([square(number) for number in range(20)]))
    assert {number: square for number, (square, _) in found.items()} == {
        number: number**2 for number in range(20)
    }


def test_order_of_a_worker_that_died_is_given_to_the_next(launcher, tmp_path):
    orders = [square(1, marker=tmp_path / "marker"), square(5)]
    with open_local_executor(launcher, size=1, limit_seconds=60) as hands:
        found = dict(hands.results(orders))
    assert [found[number][0] for number in (0, 1)] == [1, 25]
    assert (tmp_path / "marker").read_text() == "xx"


def test_order_that_kills_every_worker_is_an_error(launcher, tmp_path):
    order = square(TRIES_MAX, marker=tmp_path / "marker")
    with (
        open_local_executor(launcher, size=1, limit_seconds=60) as hands,
        pytest.raises(ToolError, match=r"must be carried out within 3 tries"),
    ):
        list(hands.results([order]))
    assert (tmp_path / "marker").read_text() == "x" * TRIES_MAX


def test_worker_killed_from_outside_costs_no_result(launcher):
    hands = LocalExecutor(launcher, size=2, limit_seconds=60)
    [(_, (_, victim))] = list(hands.results([square(1)]))
    threading.Thread(target=lambda: (time.sleep(0.05), os.kill(victim, signal.SIGKILL))).start()
    found = dict(hands.results([square(number) for number in range(500)]))
    hands.end()
    assert len(found) == 500


@pytest.mark.slow
def test_ray_gives_the_order_of_a_killed_worker_to_another(launcher, tmp_path):
    pytest.importorskip("ray")
    orders = [
        square(3, marker=tmp_path / "marker", kills_parent=True),
        *(square(number) for number in range(30)),
    ]
    with open_ray_executor(launcher, address="local", size=2, limit_seconds=60) as cluster:
        found = dict(cluster.results(orders))
    assert [found[number][0] for number in range(31)] == [9, *(n**2 for n in range(30))]
    # Three Ray workers were killed, each in the middle of its order.
    assert (tmp_path / "marker").read_text() == "xxxx"
