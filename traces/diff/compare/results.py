"""Comparison of returned values, digests, exceptions and the outcome."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from traces.diff.compare.pools import POOL_RECORDS
from traces.diff.differences import Difference, DiffLayer, with_step
from traces.diff.pairing import CallPairing
from traces.diff.values import NO_OWNERS, OwnerMap, Value, same_value
from traces.schema.model import (
    Digest,
    DigestRecord,
    Failure,
    Outcome,
    Reading,
    RoundTrip,
    TreeMatch,
)
from traces.schema.storage_records import StorageMatch
from traces.schema.verdict import Kind, Level

_IDENTIFYING_FIELDS = {
    *("step", "pool", "plane", "accessor", "stream", "sequence", "phase", "backend"),
}
_Compared: TypeAlias = Digest | RoundTrip | Reading | TreeMatch | StorageMatch
_KeyedDigests = dict[tuple[str, str, str, int], tuple[int, _Compared]]


def returned_differences(pairing: CallPairing) -> Iterator[Difference]:
    """Yield calls that return something else; constructors return their object."""
    for pair in pairing.pairs:
        finished = pair.base.raises is None and pair.head.raises is None
        if finished and not same_value(pair.base.returns, pair.head.returns, pairing.references):
            internal = pair.head.role == "builder"
            yield Difference(
                kind=Kind.OUTCOME_CHANGED,
                where=f"{pair.head.callee} returns",
                before=pair.base.returns,
                after=pair.head.returns,
                layer=DiffLayer.OPERATIONS,
                position=pairing.head.positions[pair.head.call],
                level=Level.INTERFACE if internal else Level.BEHAVIOUR,
                base_call=pair.base.call,
                head_call=pair.head.call,
            )


def digest_differences(pairing: CallPairing) -> Iterator[Difference]:
    """Yield pools whose content differs, and round trips that ended otherwise.

    What pools answer is compared by :mod:`traces.diff.compare.pools`.
    """
    old = _keyed(pairing.base.trace.digests, pairing.owners)
    new = _keyed(pairing.head.trace.digests, NO_OWNERS)
    for key in dict.fromkeys([*old, *new]):
        index, before = old.get(key, (0, None))
        place, after = new.get(key, (index, None))
        known = after or before
        if known is not None and _values(before) != _values(after):
            yield Difference(
                kind=Kind.DIGEST_CHANGED,
                where=with_step(_subject(known), known.step),
                subject=_subject(known),
                before=_values(before),
                after=_values(after),
                layer=DiffLayer.DIGESTS,
                position=place,
                pool=_pool(known),
                truncated=(after is None and pairing.head.failed)
                or (before is None and pairing.base.failed),
            )


def ending_differences(pairing: CallPairing) -> Iterator[Difference]:
    """Yield calls that an exception leaves on one side only, or another one; then the outcome."""
    head = pairing.head
    for pair in pairing.pairs:
        if pair.base.raises != pair.head.raises:
            yield Difference(
                kind=Kind.OUTCOME_CHANGED,
                where=f"{pair.head.callee} raises",
                before=describe_failure(pair.base.raises),
                after=describe_failure(pair.head.raises),
                layer=DiffLayer.OUTCOME,
                position=head.positions[pair.head.call],
                pattern="raising calls",
                base_call=pair.base.call,
                head_call=pair.head.call,
            )
    old, new = pairing.base.trace.outcome, head.trace.outcome
    if old != new:
        origin = None if new.failure is None else head.origin(new.failure)
        yield Difference(
            kind=Kind.OUTCOME_CHANGED,
            where="outcome",
            before=_describe_outcome(old),
            after=_describe_outcome(new),
            layer=DiffLayer.OUTCOME,
            position=len(head.calls),
            head_call="" if origin is None else origin.call,
        )


def refusals_among(
    pairing: CallPairing, endings: Sequence[Difference], *, gone: bool
) -> Iterator[list[Difference]]:
    """Yield the refusals among calls that raise otherwise: errors after which a scenario goes on.

    Each is one series of calls that the same error left, outermost first. ``gone`` chooses those
    that the base has, else those that are new.
    """
    if pairing.base.failed or pairing.head.failed:
        return
    series: dict[str, list[Difference]] = {}
    for found in endings:
        is_call = bool(found.base_call and found.head_call)
        raising = is_call and pairing.base.call(found.base_call).raises is not None
        if is_call and raising is gone:
            above = [
                found.head_call,
                *(one.call for one in pairing.head.ancestors(found.head_call)),
            ]
            outermost = next((label for label in reversed(above) if label in series), above[0])
            series.setdefault(outermost, []).append(found)
    yield from series.values()


def describe_failure(failure: Failure | None) -> str | None:
    """Return an exception as one text."""
    return None if failure is None else f"{failure.type}: {failure.message}"


def _describe_outcome(outcome: Outcome) -> str:
    """Return ``ok`` or the exception, with the step that it ended."""
    if outcome.ok:
        return "ok"
    return with_step(describe_failure(outcome.failure) or "failed", outcome.failed_step)


def _keyed(digests: tuple[DigestRecord, ...], owners: OwnerMap) -> _KeyedDigests:
    """Key digests by what they are of; the last part counts repetitions."""
    counts: Counter[tuple[str, str, str]] = Counter()
    keyed: _KeyedDigests = {}
    for index, digest in enumerate(digests):
        if isinstance(digest, POOL_RECORDS):
            continue
        key = _key(digest, owners)
        keyed[(*key, counts[key])] = (index, digest)
        counts[key] += 1
    return keyed


def _key(digest: _Compared, owners: OwnerMap) -> tuple[str, str, str]:
    if isinstance(digest, Digest):
        return ("content", digest.step, owners.owner(digest.owner))
    return (type(digest).__name__, digest.step, _subject(digest))


def _pool(digest: _Compared) -> str:
    return "" if isinstance(digest, TreeMatch | StorageMatch) else digest.pool


def _subject(digest: _Compared) -> str:
    match digest:
        case Digest():
            return digest.owner
        case RoundTrip():
            return f"round trip {digest.rows}"
        case Reading():
            return f"reading of {digest.pool} by {digest.accessor}"
        case TreeMatch():
            return f"tree match {digest.sequence} {digest.phase}"
        case StorageMatch():
            parts = ("prefetch", digest.sequence, digest.phase, digest.backend)
            return " ".join(filter(None, parts))


def _values(digest: _Compared | None) -> Value:
    if digest is None:
        return None
    if isinstance(digest, Digest):
        return digest.sha256
    fields = msgspec.structs.asdict(digest)
    return {name: value for name, value in fields.items() if name not in _IDENTIFYING_FIELDS}
