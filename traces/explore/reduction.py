"""Leaves steps out of a replay for as long as the same invariant is violated.

Hypothesis shrinks choices, among which the steps are hard to tell apart; any part of a list of
steps is a list of steps, so what is left can be tried directly.
"""

import msgspec

from traces.explore.replay import TrafficReplay
from traces.explore.subject import OpenSubject, run_steps


def reduce_replay(replay: TrafficReplay, *, open_subject: OpenSubject) -> TrafficReplay:
    """Return a replay that violates the same invariant and of which no step can be left out."""
    size = len(replay.steps) // 2
    while size > 1:
        replay = _drop_steps(replay, size, open_subject=open_subject)
        size //= 2
    while True:
        thinner = _drop_steps(replay, 1, open_subject=open_subject)
        if thinner is replay:
            return replay
        replay = thinner


def _drop_steps(replay: TrafficReplay, size: int, *, open_subject: OpenSubject) -> TrafficReplay:
    """Leave out every ``size`` steps in a row that are not needed, the last ones first."""
    start = len(replay.steps)
    while start > 0:
        start = max(0, start - size)
        steps = (*replay.steps[:start], *replay.steps[start + size :])
        violation = run_steps(replay.case, steps, open_subject=open_subject)
        if violation is not None and violation.invariant == replay.invariant:
            replay = msgspec.structs.replace(replay, steps=steps, message=str(violation))
    return replay
