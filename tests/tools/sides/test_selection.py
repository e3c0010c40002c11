"""Scenario names on the command line."""

from types import SimpleNamespace

import pytest

from tools.errors import ToolError
from tools.sides.targets import select_scenarios

KNOWN = {
    name: SimpleNamespace(name=name) for name in ("kv_mha_layer_first", "kv_nsa_fp8", "swa_gemma3")
}


def test_names_come_back_in_registry_order_once():
    found = select_scenarios(["swa_gemma3", "kv_nsa_fp8", "swa_gemma3"], known=KNOWN)
    assert found.names == ("kv_nsa_fp8", "swa_gemma3")
    assert [scenario.name for scenario in found.scenarios] == ["kv_nsa_fp8", "swa_gemma3"]
    assert not found.is_whole


def test_no_name_means_all():
    found = select_scenarios([], known=KNOWN)
    assert (found.names, found.is_whole) == (tuple(KNOWN), True)


@pytest.mark.parametrize(
    ("wrong", "near"), [("kv_nsa_pf8", "kv_nsa_fp8"), ("gemma", "swa_gemma3"), ("%", None)]
)
def test_unknown_name_gets_the_nearest_suggested(wrong, near):
    with pytest.raises(ToolError, match=r"^scenario: must be known; expected ") as caught:
        select_scenarios([wrong], known=KNOWN)
    assert near is None or f"expected {near} or another" in str(caught.value)
