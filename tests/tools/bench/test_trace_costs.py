import tracemalloc

import pytest

from tools.bench import trace_costs
from tools.bench.trace_costs import STAGES, StageCost, bench_traces, fitted_exponent
from traces.schema.model import Transfer


def test_an_exponent_is_the_slope_of_the_logarithms():
    assert fitted_exponent([10, 100, 1000], [1.0, 10.0, 100.0]) == pytest.approx(1.0)
    assert fitted_exponent([10, 100, 1000], [1.0, 100.0, 10000.0]) == pytest.approx(2.0)
    assert fitted_exponent([10, 100], [3.0, 3.0]) == pytest.approx(0.0)


def test_costs_are_given_for_each_event(monkeypatch):
    def measured(work, size):
        assert work is trace_costs.trace_costs
        return {stage: StageCost(seconds=size * 2e-6, bytes=size * 500) for stage in STAGES}

    monkeypatch.setattr(trace_costs, "run_in_new_process", measured)

    found = bench_traces([1000, 10_000])

    assert found["events"] == [1000, 10_000]
    assert found["diff_microseconds_per_event"] == [2.0, 2.0]
    assert found["encode_bytes_per_event"] == [500, 500]
    assert found["decode_exponent"] == pytest.approx(1.0)


def test_a_run_of_transfers_has_as_many_events_as_asked_for():
    run = trace_costs._transfers(2000)

    recording = trace_costs._record(run)

    transfers = [event for event in recording.trace.events if isinstance(event, Transfer)]
    assert len(transfers) == 2000
    assert len(trace_costs._without_event(recording, 7).trace.events) == (
        len(recording.trace.events) - 1
    )
    assert set(trace_costs.trace_costs(1000)) == {"record", "encode", "decode", "diff"}


def test_recording_takes_less_than_a_kilobyte_an_event():
    events = 4000
    run = trace_costs._transfers(events)
    # What is made once, by the first recording of a process, is left out.
    trace_costs._record(run)

    tracemalloc.start()
    try:
        recording = trace_costs._record(run)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(recording.trace.events) == events
    assert 100 < peak / events < 1000
