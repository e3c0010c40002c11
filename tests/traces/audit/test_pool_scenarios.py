"""Scenarios that make pools without a stack: their classes are no siblings of each other."""

import pytest

from traces.audit import audit
from traces.schema.verdict import Kind


@pytest.mark.parametrize(
    ("config", "subjects"),
    [
        ({}, ["wrap_rows -> Rows.width"]),
        ({"has_stack": True}, ["wrap_rows -> Rows.width"]),
        ({"has_stack": False}, []),
    ],
)
def test_wrappers_that_make_the_pool_inside_in_their_own_way_disagree_in_stacks_only(
    made, config, subjects
):
    calls = [
        made.call("wrap_rows#1", {}, role="builder"),
        made.call("Rows#1", {}, parent="wrap_rows#1", left_out={"width": 0}),
        made.call("wrap_states#1", {}, role="builder"),
        made.call("Rows#2", {"width": 4}, parent="wrap_states#1", line=7),
    ]
    recordings = {"a": made.recording("a", *calls, config=config, defaults={"Rows": {"width": 0}})}
    found = audit(recordings, recorded={})
    disagreements = [one.where for one in found if one.kind is Kind.SIBLING_DISAGREEMENT]
    assert disagreements == subjects
