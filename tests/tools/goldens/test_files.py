"""Goldens as files, and scenario names on the command line."""

import pytest

from tools.errors import ToolError
from tools.goldens.files import golden_folder, golden_names, select_scenarios

KNOWN = ("kv_mha_layer_first", "kv_nsa_fp8", "swa_gemma3")


def test_names_come_back_in_registry_order_once():
    assert select_scenarios(["swa_gemma3", "kv_nsa_fp8", "swa_gemma3"], known=KNOWN) == KNOWN[1:]


def test_no_name_means_all():
    assert select_scenarios([], known=KNOWN) == KNOWN


@pytest.mark.parametrize(
    ("wrong", "near"), [("kv_nsa_pf8", "kv_nsa_fp8"), ("gemma", "swa_gemma3"), ("%", None)]
)
def test_unknown_name_gets_the_nearest_suggested(wrong, near):
    with pytest.raises(ToolError, match=r"^scenario: must be known; expected ") as caught:
        select_scenarios([wrong], known=KNOWN)
    assert near is None or f"expected {near} or another" in str(caught.value)


def test_sidecars_are_no_goldens(tmp_path):
    for name in ("a.json", "a.sites.json", "PROVENANCE.json", "PARITY.json", "README.md"):
        (tmp_path / name).touch()
    assert golden_names(tmp_path) == {"a"}


def test_folder_that_is_missing_has_no_goldens(tmp_path):
    assert golden_folder(tmp_path, target="native") == tmp_path / "traces" / "golden" / "native"
    assert golden_names(tmp_path / "nowhere") == frozenset()
