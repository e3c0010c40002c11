"""Search for the hunks that make a difference: groups are reverted and halved, worst first.

Reverting a hunk that the others need breaks the code. The hunks that share the names which the
error gives are then reverted with it.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

from tools.hunks.source_hunks import CodeHunk
from traces.schema.verdict import Cause, Level

HunkSet: TypeAlias = frozenset[CodeHunk]

_EXPANSIONS_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The outcome of the head without some hunks.

    Attributes:
        causes: differences of the head against it, most upstream first; empty when the hunks make
            none.
        is_broken: whether it could not be run, or ended in an error that neither side has and
            that shows that the hunks belong to others.
        names: identifiers that the error gives, the surest first.
    """

    causes: tuple[Cause, ...] = ()
    is_broken: bool = False
    names: tuple[frozenset[str], ...] = ()

    @property
    def changes_behaviour(self) -> bool:
        """True if the hunks change behaviour, and while that is not known."""
        return self.is_broken or any(cause.level is Level.BEHAVIOUR for cause in self.causes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """Hunks that make some differences, alone or only together."""

    hunks: HunkSet
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """The result of a search.

    Attributes:
        makings: what was found.
        broken: units that the code cannot do without, with all that their errors name.
        is_complete: whether the time was enough.
        trial_num: number of runs.
    """

    makings: tuple[Making, ...]
    broken: tuple[HunkSet, ...]
    is_complete: bool
    trial_num: int


def bisect_hunks(
    groups: Sequence[Sequence[HunkSet]],
    *,
    hunks: Sequence[CodeHunk],
    run: Callable[[HunkSet], Trial],
    has_time: Callable[[], bool],
) -> Bisection:
    """Find which units make differences.

    Args:
        groups: sets of hunks that can be reverted alone, as far as is known; those that are
            reverted fast in the first group.
        hunks: all hunks, those among them that no unit has.
        run: runs the head without some hunks.
        has_time: whether there is time for another run.
    """
    search = _Search(hunks=hunks, run=run, has_time=has_time)
    search.search([tuple(group) for group in groups if group])
    return Bisection(
        makings=tuple(search.makings),
        broken=tuple(search.broken),
        is_complete=not search.is_stopped,
        trial_num=len(search.trials),
    )


_Waiting: TypeAlias = tuple[bool, int, tuple[HunkSet, ...], Trial]
"""A group of units in the queue: last those that change no behaviour, then in order."""


@dataclass(slots=True, kw_only=True)
class _Search:
    hunks: Sequence[CodeHunk]
    run: Callable[[HunkSet], Trial]
    has_time: Callable[[], bool]
    makings: list[Making] = field(default_factory=list)
    broken: list[HunkSet] = field(default_factory=list)
    trials: dict[HunkSet, Trial] = field(default_factory=dict)
    is_stopped: bool = False

    def search(self, groups: Sequence[tuple[HunkSet, ...]]) -> None:
        """Halve the groups, those that change behaviour first, until each unit is alone."""
        order = count()
        queue: list[_Waiting] = []
        for group in groups:
            if not self._push(group, queue, next(order)):
                return
        while queue:
            *_, group, trial = heapq.heappop(queue)
            if len(group) == 1:
                continue
            before = len(queue)
            for half in _halves(group):
                if not self._push(half, queue, next(order)):
                    return
            if len(queue) == before and trial.causes:
                # Neither half does anything alone: they do it only together.
                self._note(frozenset().union(*group), trial.causes)
        self._join_broken()

    def _push(self, group: tuple[HunkSet, ...], queue: list[_Waiting], number: int) -> bool:
        """Try a group and keep it when it does anything; return False when there is no time."""
        found = self._try(group)
        if found is not None and (found.is_broken or found.causes):
            heapq.heappush(queue, (not found.changes_behaviour, number, group, found))
        return found is not None

    def _try(self, group: Sequence[HunkSet]) -> Trial | None:
        """Run without a group and what it needs; None when there is no time."""
        hunks: HunkSet = frozenset().union(*group)
        trial = self._trial(hunks)
        for _ in range(_EXPANSIONS_MAX):
            if trial is None or not trial.is_broken:
                break
            wanted = (self._hunks_with(names) - hunks for names in trial.names)
            more = next(filter(None, wanted), None)
            if more is None:
                break
            hunks |= more
            trial = self._trial(hunks)
        if trial is not None and len(group) == 1:
            if trial.is_broken:
                self.broken.append(hunks)
            elif trial.causes:
                self._note(hunks, trial.causes)
        return trial

    def _hunks_with(self, names: frozenset[str]) -> HunkSet:
        return frozenset(one for one in self.hunks if one.names & names)

    def _trial(self, hunks: HunkSet) -> Trial | None:
        if hunks not in self.trials:
            if not self.has_time():
                self.is_stopped = True
                return None
            self.trials[hunks] = self.run(hunks)
        return self.trials[hunks]

    def _note(self, hunks: HunkSet, causes: tuple[Cause, ...]) -> None:
        if all(one.hunks != hunks for one in self.makings):
            self.makings.append(Making(hunks=hunks, causes=causes))

    def _join_broken(self) -> None:
        """Revert what cannot be reverted alone together: by file, then all of it."""
        for joined in _by_file(self.broken):
            trial = self._trial(joined)
            if trial is None:
                return
            if not trial.is_broken:
                self.broken = [one for one in self.broken if not one <= joined]
                if trial.causes:
                    self._note(joined, trial.causes)


def _halves(group: tuple[HunkSet, ...]) -> tuple[tuple[HunkSet, ...], tuple[HunkSet, ...]]:
    middle = len(group) // 2
    return group[:middle], group[middle:]


def _by_file(broken: Sequence[HunkSet]) -> Iterator[HunkSet]:
    files = {hunk.file for one in broken for hunk in one}
    joined = [
        frozenset().union(*(one for one in broken if any(hunk.file == file for hunk in one)))
        for file in sorted(files)
    ]
    yield from joined
    if len(joined) > 1:
        yield frozenset().union(*joined)
