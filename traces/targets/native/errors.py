"""Errors of the native target."""

from traces.targets.common.errors import ScenarioError


class NativeScenarioError(ScenarioError):
    """The stack did something that no stack may do, whatever its configuration."""
