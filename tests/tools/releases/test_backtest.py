"""Known faults: what counts as caught, and whether the first cause was the one."""

import msgspec
import pytest

from tools.errors import ToolError
from tools.releases.backtest import (
    CATALOGUE_PATH,
    AuditedRun,
    ExpectedCause,
    evaluate_fault,
    evaluate_unmended,
    read_catalogue,
    run_backtest,
)
from tools.sides.results import SideResults
from traces.audit.finding import finding_rank
from traces.diff.aliases import NO_ALIASES
from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    Outcome,
    Recording,
    ScenarioRecord,
    TensorRecord,
    Trace,
)
from traces.schema.verdict import Cause, Kind, SourceHunk

FAULT = """
target = "sglang"
[[case]]
id = "A"
title = "t"
url = "u"
good = "pypi:2"
bad = "pypi:1"
evidence = "both"
expected = { kinds = ["argument_changed"], parameter = "row*", callee = "Host" }
"""


def played(row, *, layout="x", playable=True):
    recordings = {"s": recording(row, "x"), "t": recording(656, layout)} if playable else {}
    return SideResults(recordings=recordings, seconds=1.5)


def side(row, *, found=(), **more):
    return AuditedRun(side=played(row, **more), findings=tuple(found))


def unmoved(where):
    return Cause(
        kind=Kind.DECLARED_NOT_ASSEMBLED,
        rank=finding_rank(Kind.DECLARED_NOT_ASSEMBLED),
        where=where,
        message="rows are never moved",
        builder="build",
        before="moved",
        after="never moved",
        scenarios=("s",),
    )


def recording(row, layout):
    call = Call(
        call="Host#1",
        parent="",
        caller="",
        step="build",
        role="constructor",
        part="",
        callee="Host",
        arguments=(
            Argument(name="layout", value=layout, given=True),
            Argument(name="row_width", value=row, given=True),
        ),
        returns={"ref": "Host#1"},
        raises=None,
    )
    tensor = TensorRecord(
        owner="host.KV",
        is_named=True,
        side="host",
        pool="KV",
        object="Host#1",
        name="kv",
        attribute="kv",
        index=(),
        planes=("kv",),
        layer=None,
        layer_num=0,
        row_bytes=row,
        slots_per_row=1,
        shape=(8, row),
        dtype="uint8",
        stride=(row, 1),
        layout="",
        bytes=8 * row,
        pinned=True,
        aliases="",
    )
    trace = Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(name="s", config={}),
        calls=(call,),
        tensors=(tensor,),
        events=(),
        digests=(),
        outcome=Outcome(ok=True, failed_step="", failure=None),
    )
    return Recording(trace=trace, sites=None)


@pytest.fixture
def fault(tmp_path):
    file = tmp_path / "faults.toml"
    file.write_text(FAULT)
    (found,) = read_catalogue(file).case
    return found


def test_fault_is_caught_when_one_cause_looks_as_expected(fault):
    found = evaluate_fault(fault, good=side(656), bad=side(576), aliases=NO_ALIASES)

    assert (found.result, found.is_first, found.place, found.causes) == ("caught", True, 0, 1)
    assert found.shown.startswith("argument_changed: row_width 656 -> 576")
    assert found.seconds >= 3.0


def test_fault_behind_another_cause_is_caught_but_not_first(fault):
    expected = ExpectedCause(kinds=fault.expected.kinds, parameter="layout")
    other = msgspec.structs.replace(fault, expected=expected)

    found = evaluate_fault(other, good=side(656), bad=side(576, layout="y"), aliases=NO_ALIASES)

    assert (found.result, found.is_first, found.place, found.causes) == ("caught", False, 1, 2)


def test_hunks_of_the_expected_cause_are_told(fault):
    hunk = SourceHunk(
        file="pkg/stack.py", base_line=4, head_line=5, before=("old",), after=("new", "newer")
    )
    expected = ExpectedCause(kinds=fault.expected.kinds, parameter="layout")
    other = msgspec.structs.replace(fault, expected=expected)
    asked = []

    def attribute(sides, causes):
        asked.append((sides[0].id, [cause.parameter for cause in causes]))
        return [msgspec.structs.replace(causes[0], made_by=(hunk,)), *causes[1:]]

    sides = {"good": side(656), "bad": side(576, layout="y"), "aliases": NO_ALIASES}
    found = evaluate_fault(other, **sides, attribute=attribute)

    assert asked == [("A", ["layout", "row_width"])]
    assert found.made_by == ("pkg/stack.py:5-6",)
    assert (found.place, found.is_first) == (1, False)
    assert evaluate_fault(other, **sides).made_by == ()


def test_fault_that_no_cause_fits_is_missed(fault):
    equal = evaluate_fault(fault, good=side(656), bad=side(656), aliases=NO_ALIASES)
    else_ = evaluate_fault(fault, good=side(656, layout="y"), bad=side(656), aliases=NO_ALIASES)

    assert (equal.result, equal.causes) == ("missed", 0)
    assert (else_.result, else_.causes) == ("missed", 1)


def test_sides_without_a_scenario_in_common_are_not_playable(fault):
    found = evaluate_fault(fault, good=side(656), bad=side(576, playable=False), aliases=NO_ALIASES)

    assert found.result == "not playable"


def test_fault_beyond_the_scenarios_is_not_playable_for_its_reason(fault):
    outside = msgspec.structs.replace(fault, outside="needs a storage server")

    found = evaluate_fault(outside, good=side(656), bad=side(656), aliases=NO_ALIASES)
    seen = evaluate_fault(outside, good=side(656), bad=side(576), aliases=NO_ALIASES)

    assert (found.result, found.shown) == ("not playable", "needs a storage server")
    assert seen.result == "caught"


def test_fault_that_only_an_audit_shows_is_caught(fault):
    audited_too = msgspec.structs.replace(
        fault, audit=ExpectedCause(kinds=(Kind.DECLARED_NOT_ASSEMBLED,), where="*DRAFT*")
    )
    bad = side(656, found=[unmoved("device.KV"), unmoved("device.DRAFT")])

    found = evaluate_fault(audited_too, good=side(656), bad=bad, aliases=NO_ALIASES)

    assert (found.result, found.gate) == ("caught", "missed")
    assert found.audit.startswith("declared_not_assembled: device.DRAFT")


@pytest.mark.parametrize(
    ("expects", "good", "bad"),
    [
        (True, ["device.DRAFT"], ["device.DRAFT"]),
        (True, [], ["device.KV"]),
        (False, [], ["device.DRAFT"]),
    ],
    ids=["in the good side as well", "another finding", "no rule can see it"],
)
def test_finding_that_says_nothing_of_the_fault_does_not_count(fault, expects, good, bad):
    """Control."""
    expected = ExpectedCause(kinds=(Kind.DECLARED_NOT_ASSEMBLED,), where="*DRAFT*")
    other = msgspec.structs.replace(fault, audit=expected if expects else None)

    found = evaluate_fault(
        other,
        good=side(656, found=map(unmoved, good)),
        bad=side(656, found=map(unmoved, bad)),
        aliases=NO_ALIASES,
    )

    assert (found.result, found.audit) == ("missed", "")


def test_every_side_is_played_once(fault):
    asked = []

    def run_side(name):
        asked.append(name)
        return played(656 if name == "pypi:2" else 576)

    found = list(run_backtest([fault, fault], run_side=run_side, aliases=NO_ALIASES))

    assert asked == ["pypi:2", "pypi:1"]
    assert [one.result for one in found] == ["caught", "caught"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("target = 1", "Expected `str`, got `int`"),
        (FAULT.replace("argument_changed", "argument_lost"), "Invalid enum value"),
        (FAULT + "surprise = 1", "unknown field"),
        ("[[", "Invalid"),
    ],
)
def test_catalogue_that_is_none_is_refused(tmp_path, text, said):
    file = tmp_path / "faults.toml"
    file.write_text(text)
    with pytest.raises(ToolError, match="must be a catalogue; expected faults, got") as caught:
        read_catalogue(file)
    assert said in str(caught.value)


def test_shipped_catalogue_has_the_pairs_that_were_run_on_both_sides():
    shipped = {case.id: case for case in read_catalogue(CATALOGUE_PATH).case}

    assert {name for name, case in shipped.items() if case.evidence == "both"} == {
        "SGL-01",
        "SGL-02",
        "SGL-03",
        "SGL-06",
        "SGL-08",
        "SGL-09",
        "SGL-11",
        "SGL-13",
        "SGL-22",
        "SGL-55",
        "SGL-57",
        "SGL-58",
        "SGL-59",
        "SGL-60",
    }
    assert {name for name, case in shipped.items() if not case.good} == {
        "SGL-51",
        "SGL-52",
        "SGL-53",
        "SGL-54",
    }
    assert (shipped["SGL-01"].good, shipped["SGL-01"].bad) == ("pypi:0.5.12", "pypi:0.5.11")


@pytest.mark.parametrize(
    ("where", "result"), [("build: device.KV.kv", "caught"), ("build: device.DRAFT.kv", "missed")]
)
def test_a_fault_that_no_release_is_without_is_judged_by_the_audit_alone(fault, where, result):
    expected = ExpectedCause(kinds=(Kind.DECLARED_NOT_ASSEMBLED,), where="*device.KV*")
    unmended = msgspec.structs.replace(fault, good="", expected=None, audit=expected)

    found = evaluate_unmended(unmended, side(576, found=[unmoved(where)]))

    assert (found.result, found.gate, found.made_by) == (result, "not playable", ())
    assert found.shown == "no release is without it"


def test_a_fault_without_a_good_side_runs_the_bad_one_alone(fault):
    unmended = msgspec.structs.replace(fault, good="", expected=None)
    ran = []

    def run_side(text):
        ran.append(text)
        return played(576)

    [found] = run_backtest([unmended], run_side=run_side, aliases=NO_ALIASES)

    assert ran == ["pypi:1"]
    assert found.result == "missed"
