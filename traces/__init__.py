"""Record what stack builders do as canonical traces, and explain how two traces differ.

.. code-block:: python

    from traces import diff, record

    with record(watch=["mypkg.pools", "mypkg.cache:Cache"]) as before:
        build_my_stack(...)
    with record(watch=["mypkg.pools", "mypkg.cache:Cache"]) as after:
        build_my_stack(...)
    for cause in diff(before, after):
        print(cause.headline())
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from traces.errors import RecorderError, TraceError, TraceFormatError
from traces.recording.probes import Target
from traces.recording.recorder import Recorder
from traces.recording.watch import ValueEncoders, Watched, watched_target
from traces.schema.model import Recording, Trace

if TYPE_CHECKING:
    from traces.schema.verdict import Cause

# Also binds the name of the subpackage, before the function below takes its place for good.
try:
    from traces.diff import diff as _diff
except ModuleNotFoundError as error:
    if error.name != "patiencediff":
        raise

    def _diff(base: Recording | Trace, head: Recording | Trace) -> "tuple[Cause, ...]":
        """Refuse: in a target's own environment only recording is possible."""
        del base, head
        raise ModuleNotFoundError("diff: needs patiencediff; expected it installed, got none")


__all__ = [
    "Recorder",
    "RecorderError",
    "Recording",
    "Trace",
    "TraceError",
    "TraceFormatError",
    "diff",
    "record",
]


def record(
    *,
    watch: Sequence[Watched] = (),
    values: ValueEncoders | None = None,
    target: str | Target | None = None,
) -> Recorder:
    """Return a recorder for a ``with`` block; after the block it holds the trace.

    Args:
        watch: modules, classes and functions of one package, by name (``mypkg.pools``,
            ``mypkg.cache:Cache``) or themselves. Without it and without a target,
            ``[tool.goldentrace] watch`` of the nearest ``pyproject.toml``; where that names
            nothing, the target ``native``.
        values: of classes that are neither watched nor dataclasses, attrs or pydantic classes: a
            function that returns a value in plain form.
        target: name of a target, or one of your own, in place of ``watch``.

    Raises:
        RecorderError: a watched name is wrong. On entering: another recorder is active. On leaving:
            something could not be recorded, or nothing was seen.
        ValueError: no target has this name.
    """
    if target is not None and (watch or values):
        raise RecorderError("record", "takes one", expected="watch or target", got="both")
    if target is None:
        target = watched_target(watch, values=values or {}, folder=Path.cwd())
    if isinstance(target, str):
        from traces.targets import get_target

        return Recorder(get_target(target))
    return Recorder(target)


def diff(
    base: Recorder | Recording | Trace, head: Recorder | Recording | Trace
) -> "tuple[Cause, ...]":
    """Return why two traces of one scenario differ, most upstream first; nothing if they are equal.

    Args:
        base: the state that is right; a finished recorder, its recording or a trace.
        head: the state to be judged. Places in source are known for what was recorded here.

    Raises:
        RecorderError: a recorder has not finished.
        ModuleNotFoundError: patiencediff is not installed in this environment.
    """
    old, new = (side.recording if isinstance(side, Recorder) else side for side in (base, head))
    return _diff(old, new)
