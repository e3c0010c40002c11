"""Reduction of a replay to the steps that are needed to violate the same invariant.

Hypothesis shrinks choices and cannot see where one step ends; any part of a list of steps is a list
of steps, so steps are dropped and the rest is run directly.
"""

import msgspec

from traces.explore.config import TrafficConfig
from traces.explore.replay import TrafficReplay
from traces.explore.subject import OpenSubject, run_steps


def reduce_replay(
    replay: TrafficReplay, config: TrafficConfig, *, open_subject: OpenSubject
) -> TrafficReplay:
    """Return a replay of the same invariant's violation from which no step can be dropped."""
    size = len(replay.steps) // 2
    while size > 1:
        replay = _drop_steps(replay, config, size, open_subject=open_subject)
        size //= 2
    while True:
        thinner = _drop_steps(replay, config, 1, open_subject=open_subject)
        if thinner is replay:
            return replay
        replay = thinner


def _drop_steps(
    replay: TrafficReplay, config: TrafficConfig, size: int, *, open_subject: OpenSubject
) -> TrafficReplay:
    """Drop every ``size`` steps in a row that are not needed, the last ones first."""
    start = len(replay.steps)
    while start > 0:
        start = max(0, start - size)
        steps = (*replay.steps[:start], *replay.steps[start + size :])
        violation = run_steps(config, steps, open_subject=open_subject)
        if violation is not None and violation.invariant == replay.invariant:
            replay = msgspec.structs.replace(replay, steps=steps, message=str(violation))
    return replay
