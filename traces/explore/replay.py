"""The file that a violation is kept in: everything that is needed to see it again."""

from dataclasses import fields
from typing import Any, Literal

import msgspec

from traces.errors import TraceFormatError
from traces.explore.config import POLICIES, TrafficConfig
from traces.explore.steps import TrafficStep, describe_step
from traces.targets.native.scenarios import BUILDERS, GROUPS, MODELS, NativeScenario

SCHEMA: Literal["goldentrace.replay/1"] = "goldentrace.replay/1"


class TrafficReplay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A violation and how to see it again.

    Attributes:
        scenario: name of the scenario, for people.
        config: every axis of the scenario.
        seed: of the bytes and the schedule.
        policy: of the schedule, whose decisions follow from seed, policy and steps.
        steps: in order; then everything is brought to an end.
        invariant: what was violated, in words.
        message: how.
    """

    schema: Literal["goldentrace.replay/1"] = SCHEMA
    scenario: str
    config: dict[str, str | int | bool | None]
    seed: int
    policy: str
    steps: tuple[TrafficStep, ...]
    invariant: str
    message: str

    @property
    def case(self) -> TrafficConfig:
        """What the steps are taken on."""
        config: dict[str, Any] = self.config
        return TrafficConfig(scenario=NativeScenario(**config), seed=self.seed, policy=self.policy)


def render_replay(replay: TrafficReplay) -> str:
    """Return a replay as JSON, with a line end after each step."""
    return msgspec.json.format(msgspec.json.encode(replay), indent=2).decode() + "\n"


def parse_replay(text: str, *, name: str) -> TrafficReplay:
    """Return the replay in a file's text.

    Raises:
        TraceFormatError: it is none of this schema.
    """
    try:
        replay = msgspec.json.decode(text, type=TrafficReplay)
    except msgspec.MsgspecError as error:
        raise TraceFormatError(name, "must be a replay", expected=SCHEMA, got=error) from error
    axes = [field.name for field in fields(NativeScenario)]
    if sorted(replay.config) != sorted(axes):
        got = ", ".join(replay.config)
        raise TraceFormatError(name, "must have every axis", expected=", ".join(axes), got=got)
    choices: dict[str, tuple[object, tuple[str, ...]]] = {
        "builder": (replay.config["builder"], tuple(BUILDERS)),
        "model": (replay.config["model"], tuple(MODELS)),
        "groups": (replay.config["groups"], tuple(GROUPS)),
        "policy": (replay.policy, POLICIES),
    }
    for what, (chosen, known) in choices.items():
        if chosen not in known:
            expected = ", ".join(known)
            raise TraceFormatError(name, f"{what} must be known", expected=expected, got=chosen)
    return replay


def describe_replay(replay: TrafficReplay) -> str:
    """Return a replay as a block of text: case, steps, what was violated."""
    lines = [f"{replay.scenario} (seed {replay.seed}, policy {replay.policy})"]
    lines += [
        f"  {number:>3} {describe_step(step)}" for number, step in enumerate(replay.steps, start=1)
    ]
    lines += [f"  violated: {replay.invariant}"]
    lines += [f"    {line}" for line in replay.message.splitlines()]
    return "\n".join(lines)
