"""Compares what calls gave back, the digests, and how the scenario ended."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from traces.diff.compare.tensors import pool_of, renamed_owner
from traces.diff.differences import Difference, DiffLayer, make_difference, with_step
from traces.diff.index import RecordingIndex
from traces.diff.pairing import CallPairing
from traces.diff.values import CallPair, Value, same_value
from traces.schema.model import Digest, DigestRecord, Failure, Outcome, RoundTrip
from traces.schema.verdict import Kind, Level

_Keyed = dict[tuple[str, str, str, int], tuple[int, DigestRecord]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultComparison:
    """Compares results of two sides."""

    base: RecordingIndex
    head: RecordingIndex
    pairing: CallPairing

    def returned(self) -> Iterator[Difference]:
        """Yield calls that give back something else; constructors give back their object."""
        for pair in self.pairing.pairs:
            finished = pair.base.raises is None and pair.head.raises is None
            references = self.pairing.references
            if finished and not same_value(pair.base.returns, pair.head.returns, references):
                yield self._of_call(pair, "returns", pair.base.returns, pair.head.returns)

    def raised(self) -> Iterator[Difference]:
        """Yield calls that an exception leaves on one side only, or another exception."""
        for pair in self.pairing.pairs:
            if pair.base.raises != pair.head.raises:
                before, after = (
                    describe_failure(pair.base.raises),
                    describe_failure(pair.head.raises),
                )
                yield self._of_call(pair, "raises", before, after)

    def _of_call(self, pair: CallPair, what: str, before: Value, after: Value) -> Difference:
        internal = pair.head.role == "builder" and what == "returns"
        return make_difference(
            Kind.OUTCOME_CHANGED,
            f"{pair.head.callee} {what}",
            before=before,
            after=after,
            layer=DiffLayer.OUTCOME if what == "raises" else DiffLayer.OPERATIONS,
            position=self.head.positions[pair.head.call],
            level=Level.INTERFACE if internal else Level.BEHAVIOUR,
            pattern="raising calls" if what == "raises" else "",
            base_call=pair.base.call,
            head_call=pair.head.call,
        )

    def digests(self) -> Iterator[Difference]:
        """Yield pools whose content differs, and round trips that ended otherwise."""
        old = _keyed(self.base.trace.digests, self.pairing.references.renamed)
        new = _keyed(self.head.trace.digests, {})
        for key in dict.fromkeys([*old, *new]):
            index, before = old.get(key, (0, None))
            place, after = new.get(key, (index, None))
            known = after or before
            if known is not None and _values(before) != _values(after):
                yield make_difference(
                    Kind.DIGEST_CHANGED,
                    _place(known),
                    before=_values(before),
                    after=_values(after),
                    layer=DiffLayer.DIGESTS,
                    position=place,
                    pool=_pool(known),
                    truncated=(after is None and self.head.failed)
                    or (before is None and self.base.failed),
                )

    def outcome(self) -> Iterator[Difference]:
        """Yield the end of the scenario when it differs."""
        before, after = (
            describe_outcome(self.base.trace.outcome),
            describe_outcome(self.head.trace.outcome),
        )
        if self.base.trace.outcome != self.head.trace.outcome:
            origin = None
            if (failure := self.head.trace.outcome.failure) is not None:
                origin = self.head.origin(failure)
            yield make_difference(
                Kind.OUTCOME_CHANGED,
                "outcome",
                before=before,
                after=after,
                layer=DiffLayer.OUTCOME,
                position=len(self.head.calls),
                head_call="" if origin is None else origin.call,
            )


def describe_failure(failure: Failure | None) -> str | None:
    """Return an exception as one text."""
    return None if failure is None else f"{failure.type}: {failure.message}"


def describe_outcome(outcome: Outcome) -> str:
    """Return ``ok`` or the exception, with the step that it ended."""
    if outcome.ok:
        return "ok"
    return with_step(describe_failure(outcome.failure) or "failed", outcome.failed_step)


def _keyed(digests: tuple[DigestRecord, ...], renamed: Mapping[str, str]) -> _Keyed:
    """Key digests by what they are of; the last part counts repetitions."""
    seen: Counter[tuple[str, str, str]] = Counter()
    keyed: _Keyed = {}
    for index, digest in enumerate(digests):
        key = _key(digest, renamed)
        keyed[(*key, seen[key])] = (index, digest)
        seen[key] += 1
    return keyed


def _key(digest: DigestRecord, renamed: Mapping[str, str]) -> tuple[str, str, str]:
    if isinstance(digest, RoundTrip):
        return ("round trip", digest.step, digest.pool)
    return ("content", digest.step, renamed_owner(digest.owner, renamed))


def _pool(digest: DigestRecord) -> str:
    """Return the pool a digest is of; what follows its name tells its planes apart."""
    name = digest.pool if isinstance(digest, RoundTrip) else pool_of(digest.owner)
    return name.partition(".")[0]


def _place(digest: DigestRecord) -> str:
    name = digest.owner if isinstance(digest, Digest) else f"round trip {digest.pool}"
    return with_step(name, digest.step)


def _values(digest: DigestRecord | None) -> Value:
    if digest is None:
        return None
    if isinstance(digest, Digest):
        return digest.sha256
    return {
        "equal": digest.equal,
        "wrong_slots": digest.wrong_slots,
        "foreign_slots": digest.foreign_slots,
    }
