"""Faults in the life of a released tree's nodes: each is put into a copy, and the gate names it.

Needs the environment of a release, which is downloaded once (`make sglang`), so these tests run
only when they are asked for by GOLDENTRACE_SGLANG=1.
"""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tools.cli import main
from tools.sides.environments.cache import environment_for

pytestmark = [
    pytest.mark.sglang,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "GOLDENTRACE_SGLANG" not in os.environ, reason="asked for by GOLDENTRACE_SGLANG=1"
    ),
]

RELEASE = "0.5.23"
# A tree whose nodes have windows, with the tree core that is written in Python.
SCENARIO = "unified_init.gpt_oss.layer_first.kernel.wts.p16.gb.tp8cp2"
TREE = "mem_cache/unified_radix_cache.py"
CONTROLLER = "managers/cache_controller.py"

# Fault: file, expression whose last match is replaced, replacement, kind and place of the cause.
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
    "a list of free slots that keeps its caller's tensor": (
        "mem_cache/allocator/base.py",
        r"(?s)def _copy_for_free_group.*?return (free_index\.clone\(\))",
        "free_index",
        ("transfer_changed", "free device.KV in census"),
    ),
}


def copied(folder: Path) -> Path:
    """Return a copy of the release: the cache itself must not be touched."""
    ignored = shutil.ignore_patterns("multimodal_gen", "__pycache__")
    return Path(shutil.copytree(environment_for(RELEASE).root, folder / RELEASE, ignore=ignored))


def gate(capsys, head: Path):
    given = ["--target", "sglang", "--base", f"pypi:{RELEASE}", "--head", f"dir:{head}"]
    code = main(["gate", *given, "--format", "json", SCENARIO])
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["problems"] == []
    return code, verdict["causes"]


def break_at(path: Path, expression: str, replacement: str) -> None:
    text = path.read_text("utf-8")
    found = re.search(expression, text)
    assert found is not None
    first, last = found.span(1)
    path.write_text(f"{text[:first]}{replacement}{text[last:]}", "utf-8")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_the_first_cause(fault, capsys, tmp_path):
    file, expression, replacement, (kind, place) = FAULTS[fault]
    tree = copied(tmp_path)
    break_at(tree / "sglang" / "srt" / file, expression, replacement)

    code, causes = gate(capsys, tree)

    assert code == 1
    assert causes[0]["kind"] == kind
    assert place in causes[0]["message"]


def test_a_copy_without_a_fault_differs_in_nothing(capsys, tmp_path):
    assert gate(capsys, copied(tmp_path)) == (0, [])
