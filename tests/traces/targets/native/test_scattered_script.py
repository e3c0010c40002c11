"""Slots of the scattered scenarios."""

import pytest

from traces.schema.model import Transfer
from traces.targets.native.run import run_scenario
from traces.targets.native.scenarios import scattered_scenarios


def slots_of(trace, direction):
    return [
        (event.device_slots, event.host_slots)
        for event in trace.events
        if isinstance(event, Transfer) and event.direction == direction and event.layer == 0
    ]


@pytest.mark.parametrize("scenario", scattered_scenarios(), ids=lambda scenario: scenario.name)
def test_scenario_restores_every_row_and_reads_after_the_reset(scenario):
    trace = run_scenario(scenario, device="sim").trace

    assert trace.outcome.ok
    assert all(getattr(record, "equal", True) for record in trace.digests)
    assert [event for event in trace.events if event.step == "read"] == []


def test_gaps_of_two_and_three_reversed_and_single_slots_lie_on_one_side_at_a_time():
    scenario = next(s for s in scattered_scenarios() if s.io_backend == "direct")
    trace = run_scenario(scenario, device="cpu").trace

    first, *_ = slots_of(trace, "backup")
    assert first == ("1,3,5,8,11,10,9,21", "0-6,8")
    assert ("13-16", "12,14,17-18") in slots_of(trace, "backup")
