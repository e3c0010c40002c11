"""Errors with which a target's scenario ends; their names are recorded as outcomes."""


class ScenarioError(Exception):
    """Base of the errors that the adapter of a target raises itself."""


class ForkError(ScenarioError):
    """A forked copy of the process ended without a result, or with one that cannot be sent."""
