"""Errors of the sglang target."""

from typing import NamedTuple

from traces.targets.common.errors import ScenarioError


class UnsupportedByRelease(ScenarioError):  # noqa: N818 - about the release, not a mistake
    """The installed release lacks a part that the scenario needs, decided before calling it.

    The message is one short line. A failure inside sglang is never turned into this.
    """


class StageError(ScenarioError):
    """The script itself cannot continue: a pool that had to be roomy was not."""


class StepNote(NamedTuple):
    """A line on a step that could not run, and the error of the release behind it, if any."""

    text: str
    error: Exception | None
