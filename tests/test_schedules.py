"""A trace holds the order that the program demands, not the one that a schedule took."""

import pytest

from traces.schema.canonical import render
from traces.targets.native.run import run_scenario
from traces.targets.native.scenarios import registry

SCENARIOS = (
    "shared_anchor.dsv32_fp8.layer_first.kernel.wts.p64.ratio.tp8cp2pp3.file",
    "hiradix_nsa.dsv32_fp8.page_first_direct.direct.wt.p64.ratio.tp8pp2.file.draft",
    "mamba_init.nemotron_h.page_first.direct.wb.p64.gb.tp8cp2pp3",
)
SCHEDULES = ("sim:latest:0", "sim:earliest:0", "sim:starve:1", "sim:starve:2", "sim:random:11")


@pytest.fixture(scope="module")
def eager():
    return {name: render(run_scenario(registry()[name], device="cpu").trace) for name in SCENARIOS}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_schedule_gives_the_trace_of_the_eager_device(eager, name, schedule):
    assert render(run_scenario(registry()[name], device=schedule).trace) == eager[name]
