import pytest

from traces.diff.values import (
    IDENTICAL,
    CallPair,
    ReferenceMap,
    by_first_use,
    content_key,
    same_value,
)

REFERENCES = ReferenceMap(
    to_head={"Host#1": "Host#2", "Gone#1": None},
    to_base={"Host#2": "Host#1", "New#1": None},
    unmade={"Old#3": "Young#5"},
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0, None),
        ("1", 1),
        ([], None),
        ([1, 2], [2, 1]),
        ({"map": [[0, 0]]}, {"map": [["0", 0]]}),
        ({"a": 1}, {"b": 1}),
    ],
)
def test_values_of_different_type_or_order_differ(before, after):
    assert not same_value(before, after, IDENTICAL)


@pytest.mark.parametrize(
    "value", [1, 1.5, True, None, "x", [1, [2]], {"map": [[0, {"ref": "A#1"}]]}, float("nan")]
)
def test_equal_values_are_the_same(value):
    assert same_value(value, value, IDENTICAL)


def test_lists_and_tuples_are_the_same():
    assert same_value([1, (2, 3)], (1, [2, 3]), IDENTICAL)


def test_references_are_compared_by_object_and_not_by_label():
    assert same_value({"ref": "Host#1"}, {"ref": "Host#2"}, REFERENCES)
    assert not same_value({"ref": "Host#1"}, {"ref": "Host#1"}, REFERENCES)


def test_reference_to_an_object_that_only_one_side_has_differs():
    assert not same_value({"ref": "Gone#1"}, {"ref": "Gone#1"}, REFERENCES)
    assert not same_value({"ref": "New#1"}, {"ref": "New#1"}, REFERENCES)


def test_object_that_nobody_constructed_is_known_by_its_label():
    assert same_value({"ref": "Event#1"}, {"ref": "Event#1"}, REFERENCES)
    assert not same_value({"ref": "Event#1"}, {"ref": "Event#2"}, REFERENCES)


def test_object_that_nobody_constructed_is_the_one_that_it_was_matched_with():
    assert same_value({"ref": "Old#3"}, {"ref": "Young#5"}, REFERENCES)
    assert not same_value({"ref": "Old#3"}, {"ref": "Young#3"}, REFERENCES)


def test_content_depends_on_the_classes_of_objects_and_not_on_their_labels():
    classes = {"x": "A", "y": "A", "z": "B"}

    assert content_key([{"ref": "x"}], classes) == content_key([{"ref": "y"}], classes)
    assert content_key([{"ref": "x"}], classes) != content_key([{"ref": "z"}], classes)
    assert content_key([{"ref": "x"}], {"x": "B"}) == content_key([{"ref": "z"}], classes)


def test_references_match_objects_by_their_constructor_calls(records):
    base, head = records.call("Host#1"), records.call("Host#2")

    references = ReferenceMap.of(
        [CallPair(base=base, head=head)],
        [records.call("Gone#1")],
        [records.call("Host#1")],
        ({"a": "Event", "b": "Event", "Host#1": "Host"}, {"c": "Event", "Host#2": "Host"}),
    )

    assert references.to_head == {"Host#1": "Host#2", "Gone#1": None}
    assert references.to_base == {"Host#2": "Host#1", "Host#1": None}
    assert references.unmade == {"a": "c"}


def test_objects_are_matched_by_the_first_paired_call_that_gets_them(records):
    pairs = [
        CallPair(
            base=records.call("Host#1", pool={"ref": "Pool#2"}),
            head=records.call("Host#1", pool={"ref": "Pool#1"}),
        )
    ]
    classes = ({"Pool#1": "Pool", "Pool#2": "Pool", "Host#1": "Host"}, {"Pool#1": "Pool"})

    old, new = by_first_use(classes, pairs)

    assert list(old) == ["Pool#2", "Pool#1", "Host#1"]
    assert ReferenceMap.of(pairs, [], [], (old, new)).unmade == {"Pool#2": "Pool#1"}
    assert ReferenceMap.of(pairs, [], [], classes).unmade == {"Pool#1": "Pool#1"}
