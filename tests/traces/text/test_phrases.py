"""Values and consequences of causes, as every report shows them."""

import pytest

from traces.schema.verdict import Cause, Consequence, Kind, Level
from traces.text.phrases import change_text, consequence_lines


def cause(kind, before, after, *, parameter=None, consequences=()):
    return Cause(
        kind=kind,
        parameter=parameter,
        before=before,
        after=after,
        consequences=consequences,
        where="the place",
        message="It differs.",
        rank=(0, 0),
    )


LONG = "model/" + "a" * 80 + "/cp1of2/" + "b" * 80


@pytest.mark.parametrize(
    ("kind", "before", "after", "shown"),
    [
        (Kind.ARGUMENT_DROPPED, 656, None, "656 -> nothing"),
        (Kind.ARGUMENT_CHANGED, 656, None, "656 -> None"),
        (Kind.DIGEST_CHANGED, {"equal": True}, None, '{"equal":true} -> nothing'),
        (
            Kind.TRANSFER_CHANGED,
            {"pool": "KV", "bytes": 656, "stream": "load"},
            {"pool": "KV", "bytes": 576, "stream": "load"},
            '{"bytes":656} -> {"bytes":576}',
        ),
        (
            Kind.TRANSFER_REMOVED,
            {"step": "", "pool": "KV", "indices": (), "layer": 0},
            None,
            '{"pool":"KV","layer":0} -> nothing',
        ),
        (
            Kind.STORAGE_KEY_CHANGED,
            {"key": LONG, "pool": "KV"},
            {"key": LONG.replace("cp1of2", "cp7of8"), "pool": "KV"},
            '{"key":"...AA/cp1of2/BB..."} -> {"key":"...AA/cp7of8/BB..."}',
        ),
    ],
)
def test_values_show_what_differs(kind, before, after, shown):
    shown = shown.replace("AA", "a" * 27).replace("BB", "b" * 29)
    assert change_text(cause(kind, before, after)) == shown


def test_equal_fields_stay_where_records_have_none_that_differ_alone():
    """Control: two lists are shown whole."""
    assert change_text(cause(Kind.SHAPE_CHANGED, [2, 656], [2, 576])) == "[2,656] -> [2,576]"


def consequences(**numbers):
    return tuple(
        Consequence(
            kind=Kind(kind), where=f"{n}", before=0, after=1, level=Level.BEHAVIOUR, count=1
        )
        for kind, number in numbers.items()
        for n in range(number)
    )


def lines(parts):
    return consequence_lines(cause(Kind.ARGUMENT_CHANGED, 1, 2, consequences=parts), written=str)


def test_no_kind_of_consequence_takes_the_room_of_another_one():
    assert lines(consequences(collective_changed=9, digest_changed=4, outcome_changed=1)) == [
        "collective_changed 0 0 -> 1",
        "collective_changed 1 0 -> 1",
        "collective_changed 2 0 -> 1",
        "collective_changed 3 0 -> 1",
        "digest_changed 0 0 -> 1",
        "digest_changed 1 0 -> 1",
        "digest_changed 2 0 -> 1",
        "outcome_changed 0 0 -> 1",
        "and 6 more: 5 collective_changed, 1 digest_changed",
    ]


def test_consequences_of_one_kind_are_shown_up_to_eight():
    """Control."""
    assert len(lines(consequences(collective_changed=8))) == 8
    assert lines(consequences(collective_changed=9))[-1] == "and 1 more: 1 collective_changed"
