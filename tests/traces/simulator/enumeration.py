"""Every schedule of a small program, one after the other."""

from typing_extensions import override

from traces.simulator import Schedule, SchedulePolicy, SimDevice


class ScriptedSchedule(Schedule):
    """Follows given choices, then takes the first one; remembers how many there were."""

    def __init__(self, script, *, is_observed):
        super().__init__(seed=0, policy=SchedulePolicy.RANDOM)
        self.script = script
        self.is_observed = is_observed
        self.widths = []

    @override
    def _choose_optional(self, ready):
        if not self.is_observed:
            return None
        return [None, *ready][self._draw(1 + len(ready))]

    @override
    def _draw(self, choice_num):
        self.widths.append(choice_num)
        position = len(self.widths) - 1
        return self.script[position] if position < len(self.script) else 0


def executions(program, *, is_observed, limit):
    """Yield ``(outcome, races)`` of every execution of a program, depth first.

    Args:
        program: takes a device and returns an outcome.
        is_observed: whether the host looks at anything before it synchronises with everything.
            If not, only the order of operations matters, and that is chosen at the end.
        limit: executions at most.
    """
    script = []
    for _ in range(limit):
        schedule = ScriptedSchedule(script, is_observed=is_observed)
        device = SimDevice(schedule=schedule, capacity_bytes=None, raise_races=False)
        outcome = program(device)
        device.synchronize()
        yield outcome, device.races
        taken = [*script, *[0] * (len(schedule.widths) - len(script))]
        while taken and taken[-1] + 1 == schedule.widths[len(taken) - 1]:
            taken.pop()
        if not taken:
            return
        script = [*taken[:-1], taken[-1] + 1]
    raise AssertionError(f"more than {limit} executions")
