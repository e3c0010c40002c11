"""Random traffic of two ranks, each in a host thread, on one simulated device."""

from itertools import pairwise

import pytest
import torch

from tests.traces.targets.native.explore.rank_traffic import run_ranks
from traces import record
from traces.explore import POLICIES, draw_config
from traces.explore.subject import RaceViolationError
from traces.schema.canonical import render
from traces.simulator.streams import SimStream
from traces.targets.native.scenarios import BUILDERS, registry

SWA = "build_hybrid_swa_stack"


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: threads would cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(builder, number, *, policies=POLICIES, step_num=12):
    case = draw_config(scenarios=registry(), builder=builder, seed=7, run=number, policies=policies)
    return run_ranks(case, rank_num=2, step_num=step_num)


@pytest.mark.parametrize("builder", BUILDERS)
def test_two_ranks_violate_no_invariant(builder):
    for number in range(4):
        assert run(builder, number).violation is None


def test_every_rank_takes_steps_and_they_interleave():
    ranks = [step.split(":")[0] for step in run(SWA, 0, policies=["random"]).steps]
    changes = sum(before != after for before, after in pairwise(ranks))

    assert ranks.count("rank 0") >= 12
    assert ranks.count("rank 1") >= 12
    assert changes >= 6


def test_other_seeds_are_other_interleavings():
    runs = [run(SWA, number, policies=["random"]) for number in range(3)]

    assert len({found.steps for found in runs}) == 3
    assert len({found.decisions for found in runs}) == 3


PROGRAM = """
from tests.traces.targets.native.explore.test_ranks import recorded_run
print(recorded_run())
"""


def recorded_run():
    """Return steps, decisions and the trace of one recorded run."""
    with record() as recorder:
        found = run(SWA, 0, policies=["random"], step_num=6)
    return found.steps, found.decisions, render(recorder.recording.trace)


def test_case_is_one_execution_and_one_trace_in_every_process(outputs_of):
    outputs = outputs_of(PROGRAM)

    assert outputs == {f"{recorded_run()}\n"}


def test_dropped_wait_of_the_backup_is_found(monkeypatch):
    """Control: the same runs, but the stream ``write`` does not wait for the forward pass."""
    wait_event = SimStream.wait_event

    def wait(self, event):
        if event.name != "write.start":
            wait_event(self, event)

    monkeypatch.setattr(SimStream, "wait_event", wait)

    found = [run(SWA, number).violation for number in range(2)]

    assert any(isinstance(violation, RaceViolationError) for violation in found)
