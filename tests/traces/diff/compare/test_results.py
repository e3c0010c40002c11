import msgspec

from traces.diff import diff
from traces.schema.model import Digest, Failure, Outcome, RoundTrip
from traces.schema.storage_records import StorageAccess
from traces.schema.verdict import Kind, Level


def digest(sha256, step="write"):
    return Digest(step=step, owner="host.KV", pool="KV", sha256=sha256)


def failed(message):
    failure = Failure(type="ValueError", message=message)
    return Outcome(ok=False, failed_step="load", failure=failure)


def test_other_content_with_equal_events_is_a_cause(records):
    (cause,) = diff(records.trace(digests=(digest("00"),)), records.trace(digests=(digest("01"),)))

    assert (cause.kind, cause.level) == (Kind.DIGEST_CHANGED, Level.BEHAVIOUR)
    assert (cause.where, cause.before, cause.after) == ("host.KV in write", "00", "01")


def test_digest_that_only_one_side_has_is_a_difference(records):
    (cause,) = diff(records.trace(digests=(digest("00"),)), records.trace())

    assert (cause.kind, cause.after) == (Kind.DIGEST_CHANGED, None)


def test_later_content_follows_from_earlier_content(records):
    def digests(sha256):
        trip = RoundTrip(
            step="load", pool="KV", plane="", equal=sha256 == "00", wrong_slots="", foreign_slots=""
        )
        return (digest(sha256), digest(sha256, step="load"), trip)

    (cause,) = diff(records.trace(digests=digests("00")), records.trace(digests=digests("01")))

    assert cause.where == "host.KV in write"
    assert [one.where for one in cause.consequences] == [
        "host.KV in load",
        "round trip KV in load",
    ]


def test_content_points_at_the_last_transfer_of_its_pool(nsa):
    base, head = nsa(), nsa()
    trace = head.trace
    written, trip = trace.digests
    changed = msgspec.structs.replace(written, sha256="ffff")
    head = msgspec.structs.replace(
        head, trace=msgspec.structs.replace(trace, digests=(changed, trip))
    )

    (cause,) = diff(base, head)

    assert cause.location is not None
    assert (cause.location.file, cause.location.line) == ("assembler/mla.py", 88)


def test_operation_that_gives_back_something_else_is_behaviour(records):
    base = records.trace(records.operation("Controller.write#1", returns={"slots": "0-63"}))
    head = records.trace(records.operation("Controller.write#1", returns=None))

    (cause,) = diff(base, head)

    assert (cause.kind, cause.level) == (Kind.OUTCOME_CHANGED, Level.BEHAVIOUR)
    assert cause.where == "Controller.write returns"


def test_builder_that_gives_back_something_else_is_interface(records):
    base = records.trace(records.builder("build_x#1", returns=[1, 2]))
    head = records.trace(records.builder("build_x#1", returns=None))

    (cause,) = diff(base, head)

    assert (cause.kind, cause.level) == (Kind.OUTCOME_CHANGED, Level.INTERFACE)


def test_other_exception_is_one_cause_at_the_innermost_call(records):
    def trace(message):
        raised = ("ValueError", message)
        return records.trace(
            records.builder("build_x#1", raises=raised),
            records.call("Host#1", parent="build_x#1", raises=raised),
            outcome=failed(message),
        )

    (cause,) = diff(trace("a"), trace("b"))

    assert (cause.kind, cause.where, cause.callee) == (Kind.OUTCOME_CHANGED, "outcome", "Host")
    assert (cause.before, cause.after) == ("ValueError: a in load", "ValueError: b in load")
    assert [(one.where, one.count) for one in cause.consequences] == [("raising calls", 2)]


def test_scenario_that_no_longer_fails_is_explained_by_the_argument_that_came_back(nsa):
    (cause,) = diff(nsa("walls", "drop override in attach"), nsa("walls"))

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_ADDED, "override_kv_cache_dim")
    assert cause.consequences[-1].after == "ok"


def test_what_a_scenario_does_that_no_longer_fails_is_one_cause_also_where_threads_went_on(records):
    """A thread of the base does what the head does at its end; what is in between is new."""

    def fetched(page):
        return StorageAccess(
            step="load",
            operation="fetch",
            pool="KV",
            key=page,
            bytes=64,
            backend="",
            sha256="",
        )

    def trace(*pages, outcome):
        events = tuple(fetched(page) for page in pages)
        return records.trace(records.builder("build_x#1"), events=events, outcome=outcome)

    fixed = Outcome(ok=True, failed_step="", failure=None)
    head = trace("a", "b", "c", "end", outcome=fixed)

    (cause,) = diff(trace("a", "end", outcome=failed("no")), head)
    assert (cause.kind, cause.before, cause.after) == (
        Kind.OUTCOME_CHANGED,
        "ValueError: no in load",
        "ok",
    )

    other, *_ = diff(trace("a", "other", "end", outcome=failed("no")), head)
    assert (other.kind, other.where) == (
        Kind.STORAGE_KEY_CHANGED,
        "storage fetch KV page b in load",
    )
