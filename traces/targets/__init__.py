"""Targets by name: the code under guard as the recorder sees it."""

from traces.recording.probes import Target


def get_target(name: str) -> Target:
    """Return a target.

    Raises:
        ValueError: no target has this name.
    """
    if name == "native":
        from traces.targets.native.target import NativeTarget

        return NativeTarget()
    raise ValueError(f"target: must be known; expected native, got {name}")
