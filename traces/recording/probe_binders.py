"""Binders of the functions that probes watch; they are made once, before processes fork."""

from traces.recording.binding import ArgumentBinder, binder_of
from traces.recording.instrument import trampoline_template
from traces.recording.probes import CallProbe, EventProbe, Target

_CONSTRUCTOR = "__init__"


def binder_of_probe(probe: CallProbe | EventProbe) -> ArgumentBinder:
    """Return the binder of a probe's function; it leaves out a subject that is not shown."""
    if isinstance(probe, EventProbe):
        return binder_of(probe.function, skip_first=False)
    is_shown = probe.shows_subject and probe.method != _CONSTRUCTOR
    return binder_of(probe.function, skip_first=bool(probe.method) and not is_shown)


def remember_binders(target: Target) -> None:
    """Make the binders of all probes of a target, for forks of this process as well.

    Reading hundreds of signatures takes a fork more time than many a scenario, and writes reference
    counts, so that the memory of all functions is copied.
    """
    for probe in target.probes():
        if isinstance(probe, CallProbe | EventProbe):
            binder_of_probe(probe)
            trampoline_template(len(probe.function.__code__.co_freevars))
