"""Leaves steps out of a replay, one at a time, for as long as the same invariant is violated.

Hypothesis shrinks choices, among which the steps are hard to tell apart; any part of a list of
steps is a list of steps, so what is left can be tried directly.
"""

from collections.abc import Iterator, Sequence

import msgspec

from traces.explore.replay import Replay
from traces.explore.steps import Step
from traces.explore.subject import OpenSubject, played


def reduced(replay: Replay, *, open_subject: OpenSubject) -> Replay:
    """Return a replay that violates the same invariant and of which no step can be left out."""
    while (shorter := _shorter(replay, open_subject=open_subject)) is not None:
        replay = shorter
    return replay


def _shorter(replay: Replay, *, open_subject: OpenSubject) -> Replay | None:
    for steps in _without_one(replay.steps):
        violation = played(replay.case, steps, open_subject=open_subject)
        if violation is not None and violation.invariant == replay.invariant:
            return msgspec.structs.replace(replay, steps=steps, message=str(violation))
    return None


def _without_one(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Yield the steps without each one of them, the last first."""
    for place in reversed(range(len(steps))):
        yield (*steps[:place], *steps[place + 1 :])
