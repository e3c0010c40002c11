import msgspec
import pytest

from traces.diff import diff
from traces.diff.compare.bind_errors import BindError, bind_error_of
from traces.schema.model import Failure, Location, Outcome, Recording, Sites
from traces.schema.verdict import Kind

HELPER = "finish_stack() missing 1 required keyword-only argument: 'tp_group'"


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (
            "f() missing 1 required keyword-only argument: 'a'",
            BindError(function="f", missing=("a",), unexpected=""),
        ),
        (
            "A.__init__() missing 2 required positional arguments: 'a' and 'b'",
            BindError(function="A.__init__", missing=("a", "b"), unexpected=""),
        ),
        (
            "missing a required argument: 'a'",
            BindError(function="", missing=("a",), unexpected=""),
        ),
        (
            "f() got an unexpected keyword argument 'a'. Did you mean 'b'?",
            BindError(function="f", missing=(), unexpected="a"),
        ),
        (
            "f() takes 0 positional arguments but 1 was given",
            BindError(function="f", missing=(), unexpected=""),
        ),
        ("unsupported operand type(s) for +: 'int' and 'str'", None),
    ],
)
def test_message_of_the_interpreter_is_read(message, refusal):
    assert bind_error_of(Failure(type="TypeError", message=message)) == refusal


def test_other_exceptions_say_nothing_about_a_signature():
    assert bind_error_of(None) is None
    assert bind_error_of(Failure(type="ValueError", message=HELPER)) is None


def failing(records, message, *calls):
    failure = Failure(type="TypeError", message=message)
    failed = Outcome(ok=False, failed_step="", failure=failure)
    return records.trace(*calls, outcome=failed)


def stack(records):
    return records.trace(
        records.builder("build_a_stack#1", page_size=64),
        records.call("Controller#1", parent="build_a_stack#1", tp_group="tp"),
    )


def broken(records, message=HELPER):
    raised = ("TypeError", message)
    return failing(
        records, message, records.builder("build_a_stack#1", page_size=64, raises=raised)
    )


def test_keyword_dropped_in_a_call_that_is_not_recorded_is_named(records):
    (cause,) = diff(stack(records), broken(records))

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_DROPPED, "tp_group")
    assert (cause.builder, cause.callee) == ("build_a_stack", "Controller")
    assert (cause.before, cause.after) == ("tp", None)
    assert cause.path == ("finish_stack", "Controller")
    assert cause.consequences[-1].where == "outcome"


def test_keyword_that_nothing_recorded_ever_got_is_named_with_its_function(records):
    message = "count_layers() missing 1 required keyword-only argument: 'start_layer'"

    (cause,) = diff(stack(records), broken(records, message))

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_DROPPED, "start_layer")
    assert cause.callee == "count_layers"
    assert cause.before is None


def test_keyword_dropped_in_a_call_of_the_base_constructor_is_no_parameter_of_the_caller(records):
    message = "HostKVCache.__init__() missing 1 required keyword-only argument: 'planes'"
    raised = ("TypeError", message)
    base = records.trace(records.call("IndexerHost#1", layout="x"))
    head = failing(records, message, records.call("IndexerHost#1", layout="x", raises=raised))

    (cause,) = diff(base, head)

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_DROPPED, "planes")
    assert cause.where == "HostKVCache.__init__.planes"


def test_keyword_dropped_in_a_call_of_an_inherited_constructor_is_its_own(records):
    message = "HostKVCache.__init__() missing 1 required keyword-only argument: 'layout'"
    raised = ("TypeError", message)
    base = records.trace(records.call("IndexerHost#1", layout="x", pin=True))
    head = failing(records, message, records.call("IndexerHost#1", pin=True, raises=raised))

    (cause,) = diff(base, head)

    assert (cause.kind, cause.callee, cause.parameter) == (
        Kind.ARGUMENT_DROPPED,
        "IndexerHost",
        "layout",
    )
    assert cause.before == "x"


def test_line_that_the_exception_left_is_the_place(records):
    sites = Sites(
        calls={"build_a_stack#1": Location(file="assembler/stacks/attach.py", line=123)},
        definitions={"build_a_stack": Location(file="assembler/stacks.py", line=10)},
        events=(),
    )
    exact = msgspec.structs.replace(sites, failure=Location(file="assembler/stacks.py", line=44))

    (known,) = diff(stack(records), Recording(trace=broken(records), sites=exact))
    (unknown,) = diff(stack(records), Recording(trace=broken(records), sites=sites))

    assert known.location == Location(file="assembler/stacks.py", line=44)
    assert unknown.location == Location(file="assembler/stacks.py", line=10)
