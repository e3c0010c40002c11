"""Targets by name: the code under guard as the recorder sees it.

The package of another engine brings its target as an entry point, in its pyproject.toml::

    [project.entry-points."goldentrace.targets"]
    myengine = "myengine.goldentrace:Target"
"""

from importlib.metadata import entry_points

from traces.recording.probes import Target

ENTRY_POINT_GROUP = "goldentrace.targets"


def get_target(name: str) -> Target:
    """Return a target: our own, or that of an entry point, whose value takes no arguments.

    Raises:
        ValueError: no target has this name, or its entry point gives none.
    """
    if name == "native":
        from traces.targets.native.target import NativeTarget

        return NativeTarget()
    found = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in found:
        known = ", ".join(("native", *sorted(found)))
        raise ValueError(f"target: must be known; expected {known}, got {name}")
    subject = f"target {name}: entry point {found[name].value}"
    try:
        target = found[name].load()()
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise ValueError(f"{subject} must make a target; expected a Target, got {got}") from error
    lacking = [one for one in _MEMBERS if not hasattr(target, one)]
    if lacking:
        raise ValueError(
            f"{subject} must make a target; expected {', '.join(_MEMBERS)}, "
            f"got a {type(target).__name__} without {', '.join(lacking)}"
        )
    made: Target = target
    return made


_MEMBERS = ("name", "package", "root", "probes", "builders", "register_types", "view")
