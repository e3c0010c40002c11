"""What an operation on slots leaves behind."""

import msgspec

from traces.audit.slot_state import left_behind
from traces.schema.pools import SlotOperation


def operation(subject, *, carried=True, **changes):
    record = SlotOperation(
        step="slots",
        holder="states",
        method="copy_from",
        subject=subject,
        is_plane=True,
        carried=carried,
        calls=(),
        reason="",
    )
    return msgspec.structs.replace(record, **changes)


def found_in(made, *digests):
    return [cause.where for cause in left_behind({"a": made.recording("a", digests=digests)})]


def test_a_plane_that_stays_while_another_goes_is_found(made):
    temporal, extra = operation("MAMBA.temporal"), operation("MAMBA.extra", carried=False)
    assert found_in(made, temporal, extra) == ["states.copy_from: MAMBA.extra"]


def test_planes_that_all_go_or_all_stay_are_no_finding(made):
    """Control: an operation that is not about these slots takes none."""
    assert found_in(made, operation("MAMBA.temporal"), operation("MAMBA.extra")) == []
    stay = [operation(name, carried=False) for name in ("MAMBA.temporal", "MAMBA.extra")]
    assert found_in(made, *stay) == []


def test_what_failed_or_is_no_plane_is_not_held_against_it(made):
    temporal = operation("MAMBA.temporal")
    failed = operation("MAMBA.extra", carried=False, reason="NotImplementedError")
    hook = operation("register_on_alloc", carried=False, is_plane=False)
    assert found_in(made, temporal, failed, hook) == []


def test_another_pool_that_takes_its_planes_is_no_measure(made):
    temporal = operation("MAMBA.temporal", holder="requests")
    assert found_in(made, temporal, operation("MAMBA.extra", carried=False)) == []
