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
    ("wrong", "expected"),
    [
        ("kv_nsa_pf8", "kv_nsa_fp8 or another of `goldentrace list`"),
        ("gemma", "swa_gemma3 or another of `goldentrace list`"),
        ("nosuch", "one of `goldentrace list`"),
    ],
)
def test_unknown_name_gets_a_known_one_suggested_that_is_alike(wrong, expected):
    with pytest.raises(ToolError) as caught:
        select_scenarios([wrong], known=KNOWN)
    assert str(caught.value) == f"scenario: must be known; expected {expected}, got {wrong}"
