import msgspec
import pytest

from traces.diff import diff

LISTS = ("calls", "tensors", "events", "digests")


def other(value):
    """Return another value of the same type, as far as that is possible."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, tuple):
        return value[1:] if value else None
    return {"slots": "1-2"} if value is None else None


def edits(recording):
    """Yield the recording with one field of one record changed, for all of them."""
    trace = recording.trace
    for name in LISTS:
        records = getattr(trace, name)
        for index, record in enumerate(records):
            for field in record.__struct_fields__:
                value = other(getattr(record, field))
                if field in ("call", "direction", "role", "raises", "unbound") or value is None:
                    continue
                changed = msgspec.structs.replace(record, **{field: value})
                edited = (*records[:index], changed, *records[index + 1 :])
                yield f"{name}[{index}].{field}", msgspec.structs.replace(trace, **{name: edited})


def losses(recording):
    """Yield the recording without one of its records, for all of them."""
    trace = recording.trace
    for name in LISTS:
        records = getattr(trace, name)
        for index in range(len(records)):
            rest = (*records[:index], *records[index + 1 :])
            yield f"{name}[{index}]", msgspec.structs.replace(trace, **{name: rest})


@pytest.mark.parametrize("changes", [edits, losses])
def test_no_record_can_change_unnoticed(nsa, changes):
    base = nsa()
    seen = 0
    for place, head in changes(base):
        seen += 1
        assert diff(base, head), place
        assert diff(head, base), place

    assert seen >= 36


def test_comparison_gives_the_same_answer_twice(nsa):
    base, head = nsa(), nsa("drop override in attach", "drop wait in read", "extra layer")

    assert diff(base, head) == diff(base, head)


def test_recordings_and_bare_traces_have_the_same_causes(nsa):
    base, head = nsa(), nsa("drop override in attach")

    with_sites, without = diff(base, head), diff(base.trace, head.trace)

    assert [cause.consequences for cause in with_sites] == [one.consequences for one in without]


def test_doubled_record_is_called_doubled(nsa):
    trace = nsa().trace
    first, *_ = trace.tensors
    doubled = msgspec.structs.replace(trace, tensors=(*trace.tensors, first))
    name = f"{first.owner}.{first.name}"

    (cause,) = diff(trace, doubled)
    (back,) = diff(doubled, trace)

    assert (
        cause.message
        == f"a record is doubled: the records of {name} are 1 in the base, 2 in the head."
    )
    assert (
        back.message
        == f"a record is doubled: the records of {name} are 2 in the base, 1 in the head."
    )
