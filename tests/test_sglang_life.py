"""Faults in the life of a released tree's nodes: each is put into a copy, and the gate names it.

Needs the environment of a release, which is downloaded once (`make sglang`), so these tests run
only when they are asked for by GOLDENTRACE_SGLANG=1.
"""

import re
from pathlib import Path

import pytest

from tests.releases import NEEDS_RELEASES, copy_release, gate

pytestmark = NEEDS_RELEASES

RELEASE = "0.5.23"
# A tree whose nodes have windows, with the tree core that is written in Python.
SCENARIO = "unified_init.gpt_oss.layer_first.kernel.wts.p16.gb.tp8cp2"
TREE = "mem_cache/unified_radix_cache.py"
CONTROLLER = "managers/cache_controller.py"

# Fault: file, expression whose last match is replaced, replacement, kind and place of a difference
# that it makes.
FAULTS = {
    "a host lock that is never given back": (
        TREE,
        r"(?s)def loading_check.*?(self\.dec_host_lock_ref\(.*?\))",
        "pass",
        ("locks_changed", "when loaded in life"),
    ),
    "a device lock that is never given back": (
        TREE,
        r"(?s)def loading_check.*?(self\.dec_lock_ref\(.*?\))",
        "pass",
        ("locks_changed", "when loaded in life"),
    ),
    "an evictable count that is not raised": (
        "mem_cache/unified_cache/components/full.py",
        r"(?s)def release_component_lock.*?(self\.tree_core\.component_evictable_size_\[ct\] \+= )",
        "_ = ",
        ("balance_changed", "slots of device.KV when backed_up in life"),
    ),
    "a load that does not wait for the forward pass": (
        CONTROLLER,
        r"(?s)def start_loading.*?(self\.load_fence_stream is not None)",
        "False",
        ("order_edge_removed", "forward@0 on forward in fence"),
    ),
    "a backup that does not wait for the forward pass": (
        CONTROLLER,
        r"(?s)def start_writing.*?(self\.write_fence_stream is not None)",
        "False",
        ("order_edge_removed", "forward@0 on forward in fence"),
    ),
    "host slots of a retracted request that are never given back": (
        TREE,
        r"(?s)def discard_kv_cache_backup.*?(self\.host_pool_group\.release_transfers\(.*?\))",
        "pass",
        ("transfer_removed", "free host.SWA in life"),
    ),
    "a list of free slots that keeps its caller's tensor": (
        "mem_cache/allocator/base.py",
        r"(?s)def _copy_for_free_group.*?return (free_index\.clone\(\))",
        "free_index",
        ("transfer_changed", "free device.KV in census"),
    ),
}


def gate_life(capsys, head: Path):
    code, verdict = gate(capsys, f"pypi:{RELEASE}", f"dir:{head}", SCENARIO)
    return code, verdict["causes"]


def break_at(path: Path, expression: str, replacement: str) -> int:
    """Replace the group of an expression in a file, and return the number of its line."""
    text = path.read_text("utf-8")
    found = re.search(expression, text)
    assert found is not None
    first, last = found.span(1)
    path.write_text(f"{text[:first]}{replacement}{text[last:]}", "utf-8")
    return text[:first].count("\n") + 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_the_one_cause_with_its_line_and_what_it_leads_to(fault, capsys, tmp_path):
    file, expression, replacement, (kind, place) = FAULTS[fault]
    tree = copy_release(RELEASE, tmp_path)
    line = break_at(tree / "sglang" / "srt" / file, expression, replacement)

    code, causes = gate_life(capsys, tree)

    assert code == 1
    assert [one["location"] for one in causes] == [{"file": f"sglang/srt/{file}", "line": line}]
    differences = [causes[0], *causes[0]["consequences"]]
    assert [one for one in differences if one["kind"] == kind and place in one["where"]]


def test_a_copy_that_says_the_same_in_other_words_differs_in_nothing(capsys, tmp_path):
    """Control: a copy that is equal to the base would not be run at all."""
    tree = copy_release(RELEASE, tmp_path)
    expression = r"(?s)def start_loading.*?(self\.load_fence_stream is not None)"
    break_at(tree / "sglang" / "srt" / CONTROLLER, expression, "not self.load_fence_stream is None")

    assert gate_life(capsys, tree) == (0, [])
