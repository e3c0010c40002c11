"""Mistakes that a builder must refuse, each by the rule it is named after."""

import pytest

from assembler.validation import validation_disabled
from traces.targets.native.errors import NativeScenarioError
from traces.targets.native.refusal_script import MISTAKES, RefusalScript
from traces.targets.native.run import run_scenario
from traces.targets.native.scenarios import refusal_scenarios

SCENARIOS = {scenario.mistake: scenario for scenario in refusal_scenarios()}
MESSAGES = {
    "row_bytes": "KV: host row must equal device row; expected 656 bytes, got 576",
    "row_dtype": (
        "KV k: host dtype must equal device dtype; expected torch.bfloat16, got torch.float16"
    ),
    "row_shape": "KV k: host row shape must equal device row shape; expected (2, 128), got (4, 64)",
    "planes": "KV: host planes must be the device's; expected ['k', 'v'], got ['kv']",
    "layer_num": "KV: host layers must equal device layers; expected 4, got 3",
    "layer_unreached": (
        "KV: a load must reach every layer once; expected [0, 1, 2, 3], got [0, 2, 3]"
    ),
    "layer_loaded_twice": (
        "KV: a load must reach every layer once; expected [0, 1, 2, 3], got [0, 1, 2, 2]"
    ),
    "missing_pool": (
        "INDEXER: declared device buffer must have a host pool; expected an entry, got none"
    ),
    "draft_row_bytes": "DRAFT k: host row must equal device row; expected 256 bytes, got 512",
    "draft_pages": (
        "DRAFT: draft pages must be laid out like the anchor's; "
        "expected 64 tokens layer_first, got 32 tokens layer_first"
    ),
    "draft_slots": (
        "DRAFT: draft host pool must have every anchor slot; expected 2176 slots or more, got 1152"
    ),
    "draft_layers": "DRAFT: every draft layer must be loaded; expected 4 layers or fewer, got 5",
    "draft_missing_pool": (
        "DRAFT INDEXER: declared device buffer must have a host pool; expected a pool, got none"
    ),
    "surplus_pool": (
        "INDEXER: a host pool must have a declared device buffer; expected one of KV, got INDEXER"
    ),
    "slots_per_row": "INDEXER: a host row must serve the device's slots; expected 64, got 1",
    "page_size": "group: host pages must be the controller's; expected 64 tokens, got 128",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_trace_holds_the_text_of_the_refusal(mistake):
    trace = run_scenario(SCENARIOS[mistake], device="cpu").trace

    raised = {call.raises.message for call in trace.calls if call.raises is not None}
    assert raised == {MESSAGES[mistake]}
    assert trace.outcome.ok


def test_stack_that_is_not_refused_ends_the_scenario():
    script = RefusalScript(SCENARIOS["row_bytes"], device="cpu")
    rule = "row_bytes: must be refused; expected AssemblyError, got a stack"
    with validation_disabled(), pytest.raises(NativeScenarioError, match=rule):
        list(script.run_step("refuse"))
