"""Benchmarks print ratios; the arithmetic is checked on made-up seconds."""

import json

import pytest

from tools.bench import ratios
from tools.bench.ratios import RecorderTimes, diff_seconds, encode_seconds, unrecorded_seconds
from tools.errors import ToolError


def answering(answers):
    return lambda work, *_arguments: answers[work]


@pytest.fixture
def made_up(monkeypatch):
    times = RecorderTimes(
        before=[1.0, 1.0, 4.0], recorded=[3.0, 6.0, 4.0], unrecorded=[1.0, 2.0, 2.0]
    )
    answers = {
        ratios.recorder_times: times,
        # Ten times the events in twenty times the time, and in ten times the time.
        ratios.encode_seconds: [0.1, 2.0],
        ratios.diff_seconds: [0.05, 0.5],
        unrecorded_seconds: 4.0,
    }
    monkeypatch.setattr(ratios, "run_in_new_process", answering(answers))


def test_recorder_ratio_is_the_median_of_the_rounds(made_up):
    found = ratios.bench_recorder(scenarios=["a", "b"], device="cpu", rounds=3)
    assert found["recorded_to_unrecorded"] == 3.0  # of 3/1, 6/2 and 4/2
    assert found["off_to_never_on"] == 2.0  # medians 2 and 1
    assert found["unrecorded_seconds_per_scenario"] == 0.5


def test_linearity_is_one_when_ten_times_the_events_take_ten_times_as_long(made_up):
    found = ratios.bench_recorder(scenarios=["a"], device="cpu", rounds=3)
    assert found["diff_linearity"] == pytest.approx(1.0)
    assert found["encode_linearity"] == pytest.approx(2.0)
    assert found["encode_microseconds_per_event"] == pytest.approx(20.0)


def test_devices_are_compared_round_by_round(monkeypatch):
    pairs = [(3.0, 2.0), (9.0, 3.0), (8.0, 4.0)]
    monkeypatch.setattr(ratios, "run_in_new_process", answering({ratios.device_times: pairs}))
    found = ratios.bench_devices(scenarios=["a", "b"], rounds=3)
    assert found["sim_to_cpu"] == 2.0  # of 1.5, 3 and 2
    assert found["cpu_seconds_per_scenario"] == 1.5


def test_gate_is_measured_against_bare_playing(made_up, monkeypatch, tmp_path):
    ticks = iter([0.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr(ratios.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(ratios, "gate_seconds", lambda *_root, **_options: 25.0)
    found = ratios.bench_gate(
        tmp_path, scenarios=["a", "b"], device="cpu", rounds=2, arguments=["a", "b"]
    )
    assert found["gate_to_bare_playing"] == 2.5
    assert found["gate_seconds_per_scenario"] == 12.5
    assert found["bare_seconds_per_scenario"] == 2.0


def test_gate_that_cannot_judge_is_not_timed(tmp_path):
    """Scenario: an empty directory, where no command line can be imported."""
    with pytest.raises(ToolError, match=r"^gate: must come to a verdict; expected exit code 0 or"):
        ratios.gate_seconds(tmp_path, device="cpu", arguments=["no such scenario"])


def test_work_runs_in_another_process_and_its_noise_stays_off_stdout(capfd):
    assert ratios.run_in_new_process(divmod, 7, 2) == (3, 1)
    assert ratios.run_in_new_process(print, "noise") is None
    assert capfd.readouterr().out == ""


def test_long_traces_are_encoded_and_compared(monkeypatch):
    monkeypatch.setattr(ratios, "SIZES", (100, 200))
    assert len(encode_seconds(1)) == 2
    assert len(diff_seconds(1)) == 2


def test_lost_event_of_the_benchmark_is_found():
    whole, cut = (ratios._long_trace(100, skipped=skipped) for skipped in (-1, 50))
    assert (len(whole.events), len(cut.events)) == (100, 99)
    assert whole.events[51] == cut.events[50]


def test_bench_prints_json(goldentrace, made_up, capsys):
    assert goldentrace("bench", "recorder", "--json") == 0
    assert json.loads(capsys.readouterr().out)["recorded_to_unrecorded"] == 3.0


def test_bench_prints_a_table(goldentrace, made_up, capsys):
    assert goldentrace("bench", "recorder", "a") == 0
    assert "recorded to unrecorded                3.000\n" in capsys.readouterr().out


def test_bench_of_an_unknown_scenario_is_refused(goldentrace, capsys):
    assert goldentrace("bench", "gate", "nsa") == 2
    assert "goldentrace: scenario: must be known" in capsys.readouterr().err
