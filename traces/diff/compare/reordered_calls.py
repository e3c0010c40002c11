"""Calls that are made elsewhere or in another order, and are otherwise the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from traces.diff.differences import Difference, DiffLayer, make_difference
from traces.diff.index import RecordingIndex
from traces.diff.pairing import CallPairing
from traces.diff.values import CallPair
from traces.schema.verdict import Kind, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class ReorderedCalls:
    """Compares who makes the calls, and in which order."""

    base: RecordingIndex
    head: RecordingIndex
    pairing: CallPairing

    def reordered(self) -> Iterator[Difference]:
        """Yield calls that changed their place: of operations behaviour, else interface."""
        for pair in self.pairing.moved:
            late = pair.head.role == "operation"
            yield self._difference(
                pair,
                before=self.base.positions[pair.base.call],
                after=self.head.positions[pair.head.call],
                layer=DiffLayer.OPERATIONS if late else DiffLayer.ASSEMBLY,
                level=Level.BEHAVIOUR if late else Level.INTERFACE,
            )

    def with_new_caller(self) -> Iterator[Difference]:
        """Yield calls made by another function; layers that came or went do not count."""
        for pair in self.pairing.pairs:
            caller = self._caller(self.base, pair.base.call, self.pairing.by_base_call)
            new = self._caller(self.head, pair.head.call, self.pairing.by_head_call)
            if caller is not new:
                yield self._difference(
                    pair,
                    before=None if caller is None else caller.base.callee,
                    after=None if new is None else new.head.callee,
                    layer=DiffLayer.ASSEMBLY,
                    level=Level.INTERFACE,
                )

    def _difference(
        self, pair: CallPair, *, before: object, after: object, layer: DiffLayer, level: Level
    ) -> Difference:
        return make_difference(
            Kind.CALL_REORDERED,
            pair.head.callee,
            before=before,
            after=after,
            layer=layer,
            position=2 * self.head.positions[pair.head.call] + 1,
            level=level,
            pattern="calls",
            base_call=pair.base.call,
            head_call=pair.head.call,
        )

    @staticmethod
    def _caller(
        side: RecordingIndex, label: str, paired: Mapping[str, CallPair]
    ) -> CallPair | None:
        above = side.ancestors(label)
        return next((paired[call.call] for call in above if call.call in paired), None)
