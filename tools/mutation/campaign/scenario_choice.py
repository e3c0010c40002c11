"""Choice of the scenarios that a mutant is run on, when not all that execute it are."""

from collections.abc import Iterable, Mapping, Sequence

from tools.mutation.campaign.tasks import BaselineResult
from tools.mutation.mutant import LineRange, Mutant


class ScenarioChoice:
    """Executed lines of scenarios, as the bits of a number for each scenario."""

    def __init__(self, results: Mapping[str, BaselineResult]) -> None:
        """Take the results of the unchanged code, by scenario."""
        last: dict[str, int] = {}
        for result in results.values():
            for file, lines in result.reached.items():
                last[file] = max(last.get(file, 0), *lines)
        self._offsets: dict[str, int] = {}
        self._sizes = {file: number + 1 for file, number in last.items()}
        size = 0
        for file, own in self._sizes.items():
            self._offsets[file] = size
            size += own
        self._reached = {name: self._bits_of(result) for name, result in results.items()}

    def choose(
        self, mutant: Mutant, names: Sequence[str], *, scenarios_max: int | None
    ) -> tuple[str, ...]:
        """Return at most so many of the scenarios that execute a mutant, unlike ones first.

        The first in the order of ``names`` stays the first. Each other is the one with most lines
        that none before it has: of the mutant's functions, then of its files, then of all; the
        first of equals. When none adds a line, the choice begins anew with those that are left.
        """
        if scenarios_max is None or len(names) <= scenarios_max:
            return tuple(names)
        files = sorted({one.file for one in mutant.changed_ranges})
        whole = (LineRange(file=file, first=0, last=self._sizes.get(file, 0)) for file in files)
        inside, beside = self._mask(mutant.functions), self._mask(whole)
        left = {name: self._reached[name] for name in names}
        chosen = [names[0]]
        seen = left.pop(names[0])
        while len(chosen) < scenarios_max:
            added = {name: lines & ~seen for name, lines in left.items()}
            best = max(
                added,
                key=lambda name: tuple(
                    (added[name] & mask).bit_count() for mask in (inside, beside, -1)
                ),
            )
            if not added[best]:
                best, seen = next(iter(left)), 0
            chosen.append(best)
            seen |= left.pop(best)
        return tuple(chosen)

    def _bits_of(self, result: BaselineResult) -> int:
        bits = bytearray(sum(self._sizes.values()) // 8 + 1)
        for file, lines in result.reached.items():
            for line in lines:
                place = self._offsets[file] + line
                bits[place // 8] |= 1 << place % 8
        return int.from_bytes(bits, "little")

    def _mask(self, spans: Iterable[LineRange]) -> int:
        """Return the bits of the lines of some spans."""
        mask = 0
        for span in spans:
            if span.file in self._offsets:
                last = min(span.last, self._sizes[span.file] - 1)
                mask |= (1 << max(0, last - span.first + 1)) - 1 << self._offsets[
                    span.file
                ] + span.first
        return mask
