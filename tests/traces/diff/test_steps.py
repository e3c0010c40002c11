"""Steps that one side lacks are one difference each."""

from traces.diff import compare_sides
from traces.schema.model import Outcome, Recording, ScenarioRecord


def recording(records, calls, **fields):
    return Recording(trace=records.trace(*calls, **fields), sites=None)


def shown(base, head):
    causes = compare_sides({"a": base}, {"a": head})
    return [(cause.kind.value, cause.where, cause.before, cause.after) for cause in causes]


def configured(records, *flags, has_stack=False, **fields):
    calls = [
        call
        for number, step in enumerate(("build", *flags), start=1)
        for call in (
            records.call(f"make_pools#{number}", role="builder", step=step),
            records.call(f"Pool#{number}", parent=f"make_pools#{number}", step=step, size=number),
        )
    ]
    scenario = ScenarioRecord(name="small", config={"has_stack": has_stack})
    return recording(records, calls, scenario=scenario, **fields)


def test_a_flag_that_changes_no_pools_any_more_is_one_cause(records):
    base, head = configured(records, "dtype=fp8"), configured(records)
    assert shown(base, head) == [
        ("call_removed", "make_pools under dtype=fp8", "dtype=fp8", None),
    ]
    assert shown(head, base) == [("call_added", "make_pools under dtype=fp8", None, "dtype=fp8")]


def test_a_step_of_a_stack_is_ours_and_its_calls_are_compared(records):
    """Control: the same steps of a scenario with a stack, and of one that failed."""
    base = configured(records, "dtype=fp8", has_stack=True)
    head = configured(records, has_stack=True)
    assert "make_pools under dtype=fp8" not in {where for _, where, *_ in shown(base, head)}
    ended = configured(records, outcome=Outcome(ok=False, failed_step="build", failure=None))
    base = configured(records, "dtype=fp8")
    assert "make_pools under dtype=fp8" not in {where for _, where, *_ in shown(base, ended)}
