import msgspec
import pytest

from tests.traces.record_facts import failure
from traces.diff import diff
from traces.schema.model import Location, Outcome, Recording, Sites
from traces.schema.verdict import Kind, Level

MISSING = ("TypeError", "build_x() missing 1 required keyword-only argument: 'page_size'")
UNEXPECTED = ("TypeError", "build_x() got an unexpected keyword argument 'pp_rank'")
HELPER = "finish_stack() missing 1 required keyword-only argument: 'tp_group'"


def only(base, head):
    (cause,) = diff(base, head)
    return cause


def host(records, defaulted=None, **given):
    return records.trace(records.call("Host#1", defaulted=defaulted, **given))


@pytest.mark.parametrize(
    ("base", "head", "kind", "before", "after"),
    [
        ({"dim": 656}, {"defaulted": {"dim": None}}, Kind.ARGUMENT_DROPPED, 656, None),
        ({"defaulted": {"dim": None}}, {"dim": 656}, Kind.ARGUMENT_ADDED, None, 656),
        ({"dim": 656}, {"dim": 576}, Kind.ARGUMENT_CHANGED, 656, 576),
        ({"dim": 1}, {"dim": True}, Kind.ARGUMENT_CHANGED, 1, True),
        ({"dim": 1}, {"dim": 1.0}, Kind.ARGUMENT_CHANGED, 1, 1.0),
        ({"dim": 656}, {}, Kind.PARAMETER_REMOVED, 656, None),
        ({}, {"dim": 656}, Kind.PARAMETER_ADDED, None, 656),
        ({"options.dim": 656}, {}, Kind.ARGUMENT_DROPPED, 656, None),
        ({}, {"options.dim": 656}, Kind.ARGUMENT_ADDED, None, 656),
    ],
)
def test_argument_that_matters_has_its_kind(records, base, head, kind, before, after):
    cause = only(host(records, **base), host(records, **head))

    assert (cause.kind, cause.level) == (kind, Level.BEHAVIOUR)
    assert (cause.before, cause.after) == (before, after)
    assert type(cause.after) is type(after)


@pytest.mark.parametrize(
    ("base", "head", "kind"),
    [
        ({"dim": 656}, {"defaulted": {"dim": 656}}, Kind.ARGUMENT_DROPPED),
        ({"defaulted": {"dim": 656}}, {"dim": 656}, Kind.ARGUMENT_ADDED),
        ({"defaulted": {"dim": 656}}, {}, Kind.PARAMETER_REMOVED),
        ({}, {"defaulted": {"dim": 656}}, Kind.PARAMETER_ADDED),
    ],
)
def test_argument_without_effect_is_interface(records, base, head, kind):
    cause = only(host(records, **base), host(records, **head))

    assert (cause.kind, cause.level) == (kind, Level.INTERFACE)


def test_other_default_is_a_changed_argument_of_the_definition(nsa, records):
    cause = only(
        host(records, defaulted={"threshold": 256}), host(records, defaulted={"threshold": 128})
    )

    assert (cause.kind, cause.before, cause.after) == (Kind.ARGUMENT_CHANGED, 256, 128)
    assert cause.message == "Host has another default for threshold."


def test_one_field_of_an_object_passed_by_value_is_named(records):
    def server_args(ratio):
        fields = {"hicache_ratio": ratio, "hicache_size": 0}
        return {"object": "ServerArgs", "fields": fields}

    def stack(ratio):
        return records.trace(
            records.builder("build_kv_only_stack#1", server_args=server_args(ratio)),
            records.call("Host#1", parent="build_kv_only_stack#1", host_to_device_ratio=ratio),
        )

    cause = only(stack(2.0), stack(3.0))

    assert cause.parameter == "server_args.hicache_ratio"
    assert (cause.before, cause.after) == (2.0, 3.0)
    assert (cause.builder, cause.callee) == ("build_kv_only_stack", "Host")


def mapping(**fields):
    return {"map": sorted([name, value] for name, value in fields.items())}


@pytest.mark.parametrize(
    ("base", "head", "kind", "parameter", "before", "after"),
    [
        ({"dim": 656}, {"dim": 576}, Kind.ARGUMENT_CHANGED, "options.dim", 656, 576),
        ({"dim": 656}, {}, Kind.ARGUMENT_DROPPED, "options.dim", 656, None),
        ({}, {"dim": 656}, Kind.ARGUMENT_ADDED, "options.dim", None, 656),
        (
            {"inner": mapping(dim=656)},
            {"inner": mapping(dim=576)},
            Kind.ARGUMENT_CHANGED,
            "options.inner.dim",
            656,
            576,
        ),
    ],
)
def test_field_of_a_mapping_is_named(records, base, head, kind, parameter, before, after):
    sides = (host(records, options=mapping(page=64, **fields)) for fields in (base, head))

    cause = only(*sides)

    assert (cause.kind, cause.parameter, cause.level) == (kind, parameter, Level.BEHAVIOUR)
    assert (cause.before, cause.after) == (before, after)


def test_two_fields_of_a_mapping_are_two_causes(records):
    def stack(**fields):
        options = mapping(name="kv", **fields)
        host = records.call("Host#1", parent="build_x#1", options=options)
        return records.trace(records.builder("build_x#1"), host)

    causes = diff(stack(dim=656, page=64), stack(dim=576, page=32))

    found = [(cause.parameter, cause.before, cause.after) for cause in causes]

    assert found == [("options.dim", 656, 576), ("options.page", 64, 32)]


def test_mapping_from_numbers_is_one_value(records):
    base = host(records, layers={"map": [[0, 3], [1, 4]]})
    head = host(records, layers={"map": [[0, 3], [1, 5]]})

    cause = only(base, head)

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_CHANGED, "layers")


def test_lost_field_of_a_mapping_is_told_with_the_constructor_that_it_was_for(records):
    def stack(**fields):
        made = {"dim": fields["dim"]} if fields else {"defaulted": {"dim": None}}
        return records.trace(
            records.builder("build_x#1", options=mapping(page=64, **fields)),
            records.call("Host#1", parent="build_x#1", **made),
        )

    cause = only(stack(dim=656), stack())

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_DROPPED, "dim")
    assert (cause.builder, cause.callee) == ("build_x", "Host")
    assert (cause.before, cause.after) == (656, None)


def test_call_that_lacks_a_required_keyword_dropped_it(records):
    base = records.trace(records.builder("build_x#1", page_size=64, defaulted={"mode": 1}))
    head = records.trace(records.builder("build_x#1", raises=MISSING))

    cause = only(base, head)

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_DROPPED, "page_size")
    assert (cause.before, cause.after) == (64, None)


def test_call_that_raises_inside_dropped_nothing(records):
    base = records.trace(records.builder("build_x#1", page_size=64))
    head = records.trace(
        records.builder("build_x#1", page_size=64, raises=("TypeError", "no len()"))
    )

    cause = only(base, head)

    assert cause.kind == Kind.OUTCOME_CHANGED


def test_call_with_a_keyword_that_is_gone_removed_a_parameter(records):
    """sglang 0.5.15: a caller kept pp_rank after the builders had lost it."""
    base = records.trace(records.builder("build_x#1", page_size=64, pp_rank=0))
    head = records.trace(records.builder("build_x#1", page_size=64, pp_rank=0, raises=UNEXPECTED))

    cause = only(base, head)

    assert (cause.kind, cause.parameter) == (Kind.PARAMETER_REMOVED, "pp_rank")


def test_call_with_a_keyword_that_never_was_added_an_argument(records):
    base = records.trace(records.builder("build_x#1", page_size=64))
    head = records.trace(records.builder("build_x#1", page_size=64, pp_rank=0, raises=UNEXPECTED))

    cause = only(base, head)

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_ADDED, "pp_rank")


def test_callee_with_a_new_required_parameter_added_it(records):
    base = records.trace(records.builder("build_x#1", size=1))
    head = records.trace(records.builder("build_x#1", size=1, raises=MISSING))

    cause = only(base, head)

    assert (cause.kind, cause.parameter) == (Kind.PARAMETER_ADDED, "page_size")


def test_positions_of_a_call_that_did_not_bind_have_the_names_of_the_signature(records):
    base = records.trace(records.builder("build_x#1", pool="kv", page_size=64))
    head = records.trace(records.builder("build_x#1", raises=MISSING, pool="kv"))

    cause = only(base, head)

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_DROPPED, "page_size")


def test_parameter_lost_on_the_way_is_one_cause_at_the_signature(records):
    def stack(**given):
        inner = given or {"defaulted": {"dim": None}}
        return records.trace(
            records.builder("build_kv_only_stack#1", **given),
            records.call("Host#1", parent="build_kv_only_stack#1", **inner),
        )

    cause = only(stack(dim=656), stack())

    assert (cause.kind, cause.parameter) == (Kind.PARAMETER_REMOVED, "dim")
    assert (cause.builder, cause.callee) == ("build_kv_only_stack", "Host")
    assert cause.level == Level.BEHAVIOUR


def test_builder_argument_that_reaches_nothing_is_interface(records):
    def stack(value):
        return records.trace(
            records.builder("build_kv_only_stack#1", unused=value),
            records.call("Host#1", parent="build_kv_only_stack#1", dim=1),
        )

    assert only(stack(1), stack(2)).level == Level.INTERFACE


def failing(records, message, *calls):
    failed = Outcome(ok=False, failed_step="", failure=failure("TypeError", message))
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
