import msgspec

from scripts.gpu_differences import REFUSED, compare_with_gpu
from traces.schema.model import (
    SCHEMA,
    Digest,
    Event,
    Failure,
    Message,
    Outcome,
    RoundTrip,
    ScenarioRecord,
    Trace,
)
from traces.schema.races import Race, RaceAccess

SIDES = {
    name: RaceAccess(operation=name, accessor="", on="stream", access="write")
    for name in ("one", "another")
}
RACE = Race(
    step="reload",
    pool="",
    buffer="",
    layer=None,
    first=SIDES["one"],
    second=SIDES["another"],
    text="one and another",
)


def trace(*, sha256: str = "00", events: tuple[Event, ...] = (), failure: str = "") -> Trace:
    round_trip = RoundTrip(
        step="reload", pool="KV", plane="", equal=sha256 == "00", wrong_slots="", foreign_slots=""
    )
    return Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(name="one", config={}),
        calls=(),
        tensors=(),
        events=events,
        digests=(Digest(step="read", owner="device.KV", pool="KV", sha256=sha256), round_trip),
        outcome=Outcome(
            ok=not failure,
            failed_step="backup" if failure else "",
            failure=Failure(type="RuntimeError", message=failure) if failure else None,
        ),
    )


def test_same_traces_are_equal_for_no_reason() -> None:
    found = compare_with_gpu(trace(), trace())
    assert (found.is_equal, found.reasons) == (True, ())


def test_other_content_is_a_difference() -> None:
    found = compare_with_gpu(trace(), trace(sha256="01"))
    assert (found.is_equal, found.reasons) == (False, ())


def test_content_behind_a_race_is_declared() -> None:
    found = compare_with_gpu(trace(events=(RACE,)), trace(sha256="01"))
    assert found.is_equal
    assert len(found.reasons) == 1


def test_order_behind_a_race_still_counts() -> None:
    other = Message(step="reload", level="error", text="other")
    found = compare_with_gpu(trace(events=(RACE,)), trace(events=(other,)))
    assert found.is_equal is False


def test_raced_round_trip_of_another_pool_is_a_difference() -> None:
    real = trace()
    renamed = msgspec.structs.replace(real.digests[1], pool="SWA")
    real = msgspec.structs.replace(real, digests=(real.digests[0], renamed))
    assert compare_with_gpu(trace(events=(RACE,)), real).is_equal is False


def test_refused_copy_cannot_be_compared() -> None:
    found = compare_with_gpu(trace(), trace(failure=f"{REFUSED}. failIdx=1 error=invalid argument"))
    assert found.is_equal is None
    assert len(found.reasons) == 1


def test_failure_of_another_kind_is_a_difference() -> None:
    assert compare_with_gpu(trace(), trace(failure="shapes differ")).is_equal is False
