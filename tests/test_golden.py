"""Every scenario still does what its golden says."""

import pytest

from traces.play import play
from traces.scenarios import registry


@pytest.mark.parametrize("name", list(registry()))
def test_scenario_behaves_as_its_golden(golden_trace, name):
    golden_trace.verify(name, play(registry()[name], device="cpu"))
