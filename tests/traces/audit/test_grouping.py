"""Findings that are one fault are shown as one."""

import pytest

from traces.audit.grouping import group_findings, place_of_finding
from traces.schema.model import Location
from traces.schema.verdict import Cause, Kind, Level


def finding(where, **fields):
    """One finding of stale rows; ``fields`` say otherwise."""
    usual = {
        "kind": Kind.STALE_AFTER_RESTORE,
        "where": where,
        "message": f"Rows of {where} are stale.",
        "rank": (7, 1),
        "before": {"equal": True},
        "after": {"wrong_slots": "4"},
        "location": Location(file="pkg/pool.py", line=7),
        "scenarios": ("a",),
        "confidence": "certain",
    }
    return Cause(**(usual | fields))


def test_the_surest_finding_leads_and_the_others_are_its_consequences():
    wiring = finding(
        "build -> Host.width",
        kind=Kind.SIBLING_DISAGREEMENT,
        confidence="likely",
        before=656,
        after=None,
        scenarios=("b",),
    )
    rows = finding("KV.k")

    (one,) = group_findings([wiring, rows], fault=lambda _: "width")

    assert (one.where, one.scenarios) == ("KV.k", ("a", "b"))
    assert one.message == "Rows of KV.k are stale. 2 findings are this one fault."
    (other,) = one.consequences
    assert (other.kind, other.where) == (Kind.SIBLING_DISAGREEMENT, "build -> Host.width")
    assert (other.before, other.after) == (656, None)
    assert (other.level, other.count) == (Level.BEHAVIOUR, 1)


def test_findings_of_different_faults_stay_apart_in_their_order():
    found = [finding("KV.k"), finding("SWA.k"), finding("KV.v")]

    grouped = group_findings(found, fault=lambda one: one.where.partition(".")[0])

    assert [(one.where, len(one.consequences)) for one in grouped] == [("KV.k", 1), ("SWA.k", 0)]
    assert grouped[1] is found[1]


@pytest.mark.parametrize(
    ("other", "is_one"),
    [
        ({}, True),
        ({"scenarios": ("a", "b")}, False),
        ({"after": {"wrong_slots": "5"}}, False),
        ({"location": Location(file="pkg/pool.py", line=8)}, False),
        ({"location": None}, False),
        ({"kind": Kind.LAYERS_CHANGED}, False),
    ],
    ids=["control", "scenarios", "values", "line", "no line", "kind"],
)
def test_planes_that_are_lost_together_are_one(other, is_one):
    grouped = group_findings([finding("KV.k"), finding("KV.v", **other)], fault=place_of_finding)

    assert len(grouped) == (1 if is_one else 2)


def test_arguments_that_one_call_leaves_out_are_one():
    names = {"model_name": ("a",), "page_size": ("b",)}
    left_out = [
        finding(name, kind=Kind.SIBLING_DISAGREEMENT, after=name, scenarios=scenarios)
        for name, scenarios in names.items()
    ]

    (one,) = group_findings(left_out, fault=place_of_finding)

    assert one.where == "model_name"
    assert [other.where for other in one.consequences] == ["page_size"]
