import inspect
from enum import IntEnum, StrEnum

import pytest

from traces.recording.binding import ArgumentBinder, binder_of, signature_of
from traces.schema.model import Unbound


def shape(a, b=2, *rest, c, d=4, **extra):
    return None


def strict(a, /, b, *, c=3):
    return None


def told(binder: ArgumentBinder, *args, **kwargs) -> list[tuple]:
    return [(one.name, one.value, one.given) for one in binder.bind(args, kwargs)[0]]


def test_arguments_tell_given_from_defaulted_in_signature_order():
    binder = ArgumentBinder(shape, skip_first=False)

    assert told(binder, 1, c=3) == [
        ("a", 1, True),
        ("b", 2, False),
        ("c", 3, True),
        ("d", 4, False),
    ]


def test_values_are_in_signature_order_wherever_they_come_from():
    def take(first, second=2, *rest, third=3, fourth, **more):
        pass

    values = ArgumentBinder(take, skip_first=False).values((1,), {"fourth": 4, "third": 33, "x": 5})

    assert list(values.items()) == [("first", 1), ("second", 2), ("third", 33), ("fourth", 4)]


def test_default_value_that_is_given_counts_as_given():
    binder = ArgumentBinder(shape, skip_first=False)

    assert ("b", 2, True) in told(binder, 1, 2, c=3)
    assert ("b", 2, False) in told(binder, 1, c=3)


def test_variable_arguments_are_flattened_and_keywords_sorted():
    binder = ArgumentBinder(shape, skip_first=False)

    assert told(binder, 1, 2, "x", "y", z=9, c=3, k=8) == [
        ("a", 1, True),
        ("b", 2, True),
        ("rest[0]", "x", True),
        ("rest[1]", "y", True),
        ("c", 3, True),
        ("d", 4, False),
        ("extra.k", 8, True),
        ("extra.z", 9, True),
    ]


def test_positional_only_name_may_be_an_extra_keyword():
    def only(a, /, **extra):
        return None

    assert told(ArgumentBinder(only, skip_first=False), 1, a=2) == [
        ("a", 1, True),
        ("extra.a", 2, True),
    ]


def test_self_is_left_out():
    class Thing:
        def method(self, x, y=1):
            return None

    thing = Thing()
    binder = ArgumentBinder(Thing.method, skip_first=True)

    assert told(binder, thing, 5) == [("x", 5, True), ("y", 1, False)]
    assert binder.values((thing, 5), {}) == {"self": thing, "x": 5, "y": 1}


@pytest.mark.parametrize(
    ("args", "kwargs", "raw"),
    [
        ((1, 2, 3), {}, [("a", 1, True), ("b", 2, True), ("args[2]", 3, True)]),
        ((1,), {}, [("a", 1, True)]),
        ((1,), {"b": 2, "zeta": 0}, [("a", 1, True), ("b", 2, True), ("zeta", 0, True)]),
        ((1, 2), {"b": 2}, [("a", 1, True), ("args[1]", 2, True), ("b", 2, True)]),
        ((), {"a": 1, "b": 2}, [("a", 1, True), ("b", 2, True)]),
    ],
)
def test_call_that_cannot_bind_is_told_by_the_names_that_it_has(args, kwargs, raw):
    binder = ArgumentBinder(strict, skip_first=False)

    assert told(binder, *args, **kwargs) == raw
    assert binder.values(args, kwargs) is None
    with pytest.raises(TypeError):
        strict(*args, **kwargs)


class Policy(StrEnum):
    BACK = "write_back"


class Rank(IntEnum):
    FIRST = 0


class Foreign:
    """Equal to everything, as arrays nearly are."""

    def __eq__(self, other):
        raise AssertionError("compared")

    __hash__ = None


def test_plain_defaults_are_as_a_trace_has_them():
    def many(
        a,
        *,
        none=None,
        flag=True,
        count=1,
        ratio=2.0,
        empty=(),
        policy=Policy.BACK,
        rank=Rank.FIRST,
    ):
        return None

    found = ArgumentBinder(many, skip_first=False).plain_defaults

    assert found == {
        "none": None,
        "flag": True,
        "count": 1,
        "ratio": 2.0,
        "empty": [],
        "policy": "write_back",
        "rank": 0,
    }
    assert {name: type(value) for name, value in found.items()} == {
        "none": type(None),
        "flag": bool,
        "count": int,
        "ratio": float,
        "empty": list,
        "policy": str,
        "rank": int,
    }


def test_default_of_a_foreign_type_is_neither_plain_nor_compared():
    def odd(*, foreign=Foreign(), full=(1,), listed=[]):  # noqa: B006, B008
        return None

    assert ArgumentBinder(odd, skip_first=False).plain_defaults == {}


def test_plain_defaults_are_read_once():
    binder = ArgumentBinder(shape, skip_first=False)

    assert binder.plain_defaults == {"b": 2, "d": 4}
    assert binder.plain_defaults is binder.plain_defaults


@pytest.mark.parametrize(
    ("args", "kwargs", "missing", "unexpected"),
    [
        ((1, 2, 3), {}, (), ""),
        ((1,), {}, ("b",), ""),
        ((1,), {"b": 2, "zeta": 0}, (), "zeta"),
        ((), {}, ("a", "b"), ""),
    ],
)
def test_what_does_not_fit_a_signature_is_known_without_the_text_of_the_interpreter(
    args, kwargs, missing, unexpected
):
    binder = ArgumentBinder(strict, skip_first=False)

    assert binder.bind(args, kwargs)[1] == Unbound(
        function="strict", missing=missing, unexpected=unexpected
    )


def test_nothing_is_unbound_in_a_call_that_fits():
    assert ArgumentBinder(strict, skip_first=False).bind((1, 2), {})[1] is None


def fresh():
    def function(a, b=2):
        return None

    return function


def test_a_binder_is_made_once_for_a_function():
    function, other = fresh(), fresh()

    assert binder_of(function, skip_first=False) is binder_of(function, skip_first=False)
    assert binder_of(function, skip_first=False) is not binder_of(other, skip_first=False)
    assert binder_of(function, skip_first=False) is not binder_of(function, skip_first=True)


def test_a_binder_follows_a_function_that_gets_other_defaults_or_code():
    function = fresh()
    binder_of(function, skip_first=False)

    function.__defaults__ = (3,)
    assert told(binder_of(function, skip_first=False), 1) == [("a", 1, True), ("b", 3, False)]

    function.__code__ = (lambda x, y: None).__code__
    assert told(binder_of(function, skip_first=False), 1) == [("x", 1, True), ("y", 3, False)]


def test_a_binder_follows_a_keyword_default_that_changes_in_place():
    def function(*, a=1):
        return None

    binder_of(function, skip_first=False)
    function.__kwdefaults__["a"] = 2

    assert told(binder_of(function, skip_first=False)) == [("a", 2, False)]


def test_a_function_that_states_another_signature_is_read_each_time():
    function = fresh()
    function.__signature__ = inspect.signature(lambda c: None)
    before = signature_of(function)
    function.__signature__ = inspect.signature(lambda d: None)

    assert list(before.parameters) == ["c"]
    assert list(signature_of(function).parameters) == ["d"]
