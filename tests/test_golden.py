"""Every scenario still does what its golden says."""

import pytest

from traces.targets.native.run import run_scenario
from traces.targets.native.scenarios import registry


@pytest.mark.parametrize("name", list(registry()))
def test_scenario_behaves_as_its_golden(golden_trace, name):
    golden_trace.verify(name, run_scenario(registry()[name], device="cpu"))
