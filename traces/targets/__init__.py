"""Targets by name: what each kind of code under guard exposes."""

from traces.recording.probes import Target


def get_target(name: str) -> Target:
    """Return a target.

    Raises:
        ValueError: there is none of this name.
    """
    if name == "native":
        from traces.targets.native.target import NativeTarget

        return NativeTarget()
    raise ValueError(f"target: must be known; expected native, got {name}")
