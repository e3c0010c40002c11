"""Running a native scenario that ends early."""

import pytest

from traces.targets.native import run
from traces.targets.native.scenarios import registry

NAME = "hiradix_nsa.dsv32_fp8.page_first.kernel.wts.p64.ratio.tp1.file"


def test_error_before_anything_was_recorded_is_raised_as_it_is(monkeypatch):
    def broken(recorder, script, step):
        raise OSError("no such device")

    monkeypatch.setattr(run, "_record_step", broken)
    with pytest.raises(OSError, match="no such device"):
        run.run_scenario(registry()[NAME], device="cpu")


def test_error_after_that_is_the_outcome(monkeypatch):
    record_step = run._record_step

    def broken(recorder, script, step):
        record_step(recorder, script, step)
        if step == "backup":
            raise OSError("no such device")

    monkeypatch.setattr(run, "_record_step", broken)
    outcome = run.run_scenario(registry()[NAME], device="cpu").trace.outcome
    assert (outcome.ok, outcome.failed_step) == (False, "backup")


def test_a_run_ends_behind_its_last_step():
    whole = run.run_scenario(registry()[NAME], device="cpu").trace
    cut = run.run_scenario(registry()[NAME], device="cpu", last_step="backup").trace
    assert cut.outcome.ok
    assert [one for one in whole.digests if one.step in ("build", "backup")] == list(cut.digests)
    assert len(cut.digests) < len(whole.digests)
