"""A refusal that comes or goes, after which a scenario goes on, is a cause with a line."""

from traces.diff import diff
from traces.schema.model import Location, Message, Recording, Sites

NARROW = ("ValueError", "draft rows: must be as wide as the target's")


def _recording(records, *, refuses, wide=656):
    """Return two steps: one assembles a draft pool, which may be refused; one another stack."""
    draft = records.call("Draft#1", role="operation", step="draft", returns=None)
    build = records.builder(
        "build_stack#1", step="draft", pool={"ref": "Pool#1"}, raises=NARROW if refuses else None
    )
    check = records.builder(
        "check_rows#1", step="draft", parent="build_stack#1", raises=NARROW if refuses else None
    )
    made = records.call(
        "HostPool#1", step="draft", parent="build_stack#1", device={"ref": "Pool#2"}, width=wide
    )
    # Where the draft is refused, the pool of the next step is the second one that is met.
    pool = "Pool#2" if refuses else "Pool#3"
    plain = records.builder("build_stack#2", step="plain", pool={"ref": pool})
    last = records.call(
        "HostPool#2", step="plain", parent="build_stack#2", device={"ref": pool}, width=576
    )
    calls = [draft, build, check, *([] if refuses else [made]), plain, last]
    message = Message(step="draft", level="warning", text=NARROW[1])
    trace = records.trace(*calls, events=(message,) if refuses else ())
    line = Location(file="sglang/rows.py", line=7)
    return Recording(
        trace=trace, sites=Sites(calls={}, definitions={}, events=(line,) if refuses else ())
    )


def test_a_refusal_that_is_gone_is_the_only_cause(records):
    base, head = _recording(records, refuses=True), _recording(records, refuses=False)
    (cause,) = diff(base, head)

    assert (cause.kind, cause.where) == ("outcome_changed", "check_rows raises")
    assert cause.before == "ValueError: draft rows: must be as wide as the target's"
    assert cause.after is None
    assert cause.location == Location(file="sglang/rows.py", line=7)
    assert {(one.kind, one.where) for one in cause.consequences} == {
        ("outcome_changed", "warning message in draft"),
        ("outcome_changed", "build_stack raises"),
        ("call_added", "HostPool in build_stack"),
    }


def test_a_refusal_that_is_new_is_the_only_cause(records):
    base, head = _recording(records, refuses=False), _recording(records, refuses=True)
    (cause,) = diff(base, head)

    assert (cause.kind, cause.where) == ("outcome_changed", "check_rows raises")
    assert cause.before is None
    assert cause.location == Location(file="sglang/rows.py", line=7)
    assert "call_removed" in {one.kind for one in cause.consequences}


def test_a_call_that_is_new_without_a_refusal_is_a_cause(records):
    base, head = _recording(records, refuses=False), _recording(records, refuses=False)
    lost = tuple(call for call in base.trace.calls if call.call != "HostPool#1")
    base = Recording(trace=records.trace(*lost), sites=base.sites)

    assert [cause.kind for cause in diff(base, head)] == ["call_added"]
