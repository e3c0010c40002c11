"""What this target raises when a release has no part that a scenario needs."""


class UnsupportedByRelease(Exception):  # noqa: N818 - about the release, not a mistake
    """The installed release lacks something the scenario needs, decided before calling it.

    The message is one short line. A failure inside sglang is never turned into this.
    """


class StageError(Exception):
    """The played script itself cannot go on: a pool that had to be roomy was not."""
