"""Records of exceptions."""

import pytest

from assembler.errors import PoolError
from traces.recording.failures import failure_of
from traces.schema.model import Failure, Unbound

HELPER = "finish_stack() missing 1 required keyword-only argument: 'tp_group'"


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (
            "f() missing 1 required keyword-only argument: 'a'",
            Unbound(function="f", missing=("a",), unexpected=""),
        ),
        (
            "A.__init__() missing 2 required positional arguments: 'a' and 'b'",
            Unbound(function="A.__init__", missing=("a", "b"), unexpected=""),
        ),
        (
            "missing a required argument: 'a'",
            Unbound(function="", missing=("a",), unexpected=""),
        ),
        (
            "f() got an unexpected keyword argument 'a'. Did you mean 'b'?",
            Unbound(function="f", missing=(), unexpected="a"),
        ),
        (
            "f() takes 0 positional arguments but 1 was given",
            Unbound(function="f", missing=(), unexpected=""),
        ),
        ("unsupported operand type(s) for +: 'int' and 'str'", None),
    ],
)
def test_message_of_the_interpreter_is_read(message, refusal):
    assert failure_of(TypeError(message)).unbound == refusal


def test_other_exceptions_say_nothing_about_a_signature():
    assert failure_of(ValueError(HELPER)).unbound is None


def test_error_that_names_its_rule_gives_the_parts_of_it():
    failure = failure_of(PoolError("KV", "must fit", expected=656, got=576))

    assert failure == Failure(
        type="PoolError",
        message="KV: must fit; expected 656, got 576",
        subject="KV",
        rule="must fit",
        expected="656",
        got="576",
    )


def test_other_errors_give_type_and_text():
    assert failure_of(ValueError("no")) == Failure(type="ValueError", message="no")
