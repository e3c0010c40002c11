import msgspec

from traces.diff import diff
from traces.schema.life import NodeLocks, PoolBalance
from traces.schema.model import Digest, Failure, Outcome, RoundTrip
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


def locks(device=1, node="1000-1007"):
    return NodeLocks(
        step="life", moment="backing_up", node=node, component="FULL", device=device, host=0
    )


def balance(free):
    return PoolBalance(
        step="life",
        moment="backing_up",
        pool="KV",
        side="host",
        total=48,
        free=free,
        cached=16,
        held=0,
        evictable=None,
        protected=None,
        is_final=False,
    )


def test_a_lock_that_is_gone_is_a_cause(records):
    base = records.trace(digests=(locks(), locks(node="1000-1015")))
    (cause,) = diff(base, records.trace(digests=(locks(),)))

    assert (cause.kind, cause.level) == (Kind.LOCKS_CHANGED, Level.BEHAVIOUR)
    assert cause.where == "locks of FULL of node 1000-1015 when backing_up in life"
    assert (cause.before, cause.after) == ({"device": 1, "host": 0}, None)
    assert diff(base, base) == ()


def test_slots_that_are_no_longer_free_are_a_cause(records):
    (cause,) = diff(records.trace(digests=(balance(32),)), records.trace(digests=(balance(24),)))

    assert (cause.kind, cause.where) == (
        Kind.BALANCE_CHANGED,
        "slots of host.KV when backing_up in life",
    )
    assert (cause.before["free"], cause.after["free"]) == (32, 24)
