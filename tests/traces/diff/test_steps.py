"""Steps that one side lacks are one difference each."""

import pytest

from traces.diff import compare_sides
from traces.schema.model import Outcome, Recording, ScenarioRecord


def recording(records, calls, **fields):
    return Recording(trace=records.trace(*calls, **fields), sites=None)


def shown(base, head):
    causes = compare_sides({"a": base}, {"a": head})
    return [(cause.kind.value, cause.where, cause.before, cause.after) for cause in causes]


@pytest.fixture
def assemblies(records):
    """Two assemblies, each with a draft registered afterwards; the first may be refused."""

    def play(*, refuses=False, width=576):
        calls, tensors = [], []
        for number, step in enumerate(("page_first", "layer_first"), start=1):
            is_refused = refuses and number == 1
            raises = ("ValueError", "no page_first") if is_refused else None
            builder, host = f"build_stack#{number}", f"Host#{number}"
            pool = {"ref": f"Pool#{number}"}
            calls += [
                records.call(builder, role="builder", step=step, raises=raises, kv_pool=pool),
                records.call(host, parent=builder, step=step, raises=raises, width=width),
            ]
            if not is_refused:
                calls.append(records.call(f"Draft#{number}", step=step, size=8))
                rows = (8, width)
                tensors.append(records.tensor(f"host.{step}:KV", "kv", rows, object=host))
                tensors.append(records.tensor(f"device.{step}:KV", "kv", rows, object=pool["ref"]))
        return recording(records, calls, tensors=tuple(tensors))

    return play


def test_what_an_assembly_had_that_is_refused_now_follows_from_the_refusal(assemblies):
    assert shown(assemblies(), assemblies(refuses=True)) == [
        ("outcome_changed", "Host raises", None, "ValueError: no page_first")
    ]
    assert shown(assemblies(refuses=True), assemblies()) == [
        ("outcome_changed", "Host raises", "ValueError: no page_first", None)
    ]


def test_what_changes_in_another_assembly_shows_beside_a_refusal(assemblies):
    found = shown(assemblies(), assemblies(refuses=True, width=656))
    assert ("argument_changed", "Host.width") in [(kind, where) for kind, where, *_ in found]


def test_a_refusal_on_both_sides_is_none(assemblies):
    assert shown(assemblies(refuses=True), assemblies(refuses=True)) == []


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
