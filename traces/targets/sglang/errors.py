"""Errors of the sglang target."""

from traces.targets.common.errors import ScenarioError


class UnsupportedByRelease(ScenarioError):  # noqa: N818 - about the release, not a mistake
    """The installed release lacks a part that the scenario needs, decided before calling it.

    The message is one short line. A failure inside sglang is never turned into this.
    """


class StageError(ScenarioError):
    """The script itself cannot continue: a pool that had to be roomy was not."""
