"""Files of violations: everything that is needed to reproduce one."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from traces.errors import TraceFormatError
from traces.explore.config import POLICIES, TrafficConfig, TrafficScenario
from traces.explore.steps import TrafficStep, describe_step

ScenarioOf: TypeAlias = Callable[[Mapping[str, Any], str], TrafficScenario]
"""Given axes and a name for messages, returns the target's scenario; raises TraceFormatError."""

SCHEMA: Literal["goldentrace.replay/1"] = "goldentrace.replay/1"


class TrafficReplay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A violation and the steps that reproduce it.

    Attributes:
        scenario: name of the scenario, for people.
        seed: of the bytes and the schedule.
        policy: of the schedule, whose decisions follow from seed, policy and steps.
        steps: in order; afterwards all queued work is finished.
        invariant: the violated invariant, in words.
        message: details of the violation.
    """

    schema: Literal["goldentrace.replay/1"] = SCHEMA
    scenario: str
    config: dict[str, str | int | bool | None]
    seed: int
    policy: str
    steps: tuple[TrafficStep, ...]
    invariant: str
    message: str

    def traffic_config(self, scenario_of: ScenarioOf) -> TrafficConfig:
        """Return the configuration that the steps run on.

        Raises:
            TraceFormatError: the target has no such scenario.
        """
        scenario = scenario_of(self.config, self.scenario)
        return TrafficConfig(scenario=scenario, seed=self.seed, policy=self.policy)


def render_replay(replay: TrafficReplay) -> str:
    """Return a replay as JSON, with a line end after each step."""
    return msgspec.json.format(msgspec.json.encode(replay), indent=2).decode() + "\n"


def parse_replay(text: str, *, name: str, scenario_of: ScenarioOf) -> TrafficReplay:
    """Return the replay in a file's text; ``name`` is the file's, for messages.

    Raises:
        TraceFormatError: it is none of this schema, or the target has no such scenario.
    """
    try:
        replay = msgspec.json.decode(text, type=TrafficReplay)
    except msgspec.MsgspecError as error:
        raise TraceFormatError(name, "must be a replay", expected=SCHEMA, got=error) from error
    scenario_of(replay.config, name)
    if replay.policy not in POLICIES:
        expected = ", ".join(POLICIES)
        raise TraceFormatError(name, "policy must be known", expected=expected, got=replay.policy)
    return replay


def describe_replay(replay: TrafficReplay) -> str:
    """Return a replay as a block of text: scenario, steps, violated invariant."""
    lines = [f"{replay.scenario} (seed {replay.seed}, policy {replay.policy})"]
    lines += [
        f"  {number:>3} {describe_step(step)}" for number, step in enumerate(replay.steps, start=1)
    ]
    lines += [f"  violated: {replay.invariant}"]
    lines += [f"    {line}" for line in replay.message.splitlines()]
    return "\n".join(lines)
