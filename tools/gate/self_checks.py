"""Checks of one trace alone, without another one to compare it with."""

from collections.abc import Iterator, Mapping, Sequence

from tools.errors import ToolError
from traces.schema.model import DigestRecord, Reading, RoundTrip, Trace, TreeMatch
from traces.schema.races import Race
from traces.schema.storage_records import StorageMatch
from traces.text.phrases import pluralise


def failed_checks(trace: Trace) -> tuple[str, ...]:
    """Return one line for each race and round trip that went wrong, and for a failed outcome.

    Two traces of one scenario that fail in the same way give the same lines.
    """
    name = trace.scenario.name
    lines = [
        _line(name, *complaint) for digest in trace.digests for complaint in _complaints(digest)
    ]
    lines += [
        _line(name, "accesses must be ordered", "no race", f"{race.text} in step {race.step!r}")
        for race in trace.events
        if isinstance(race, Race)
    ]
    if not trace.outcome.ok:
        failure = trace.outcome.failure
        reason = "no reason" if failure is None else f"{failure.type}: {failure.message}"
        step = trace.outcome.failed_step
        lines.append(_line(name, "must end well", "outcome ok", f"{reason} in step {step!r}"))
    return tuple(lines)


def _complaints(digest: DigestRecord) -> Iterator[tuple[str, str, str]]:
    """Yield rule, expected and got."""
    step = f"in step {digest.step!r}"
    match digest:
        case RoundTrip():
            of = f"of {digest.rows} {step}"
            if not digest.equal:
                got = f"{digest.wrong_slots} {of}"
                yield "a round trip must restore every row", "none wrong", got
            if digest.foreign_slots:
                got = f"{digest.foreign_slots} {of}"
                yield "a load must leave other slots alone", "none touched", got
        case Reading(equal=False):
            got = f"other bytes of {digest.pool} by {digest.accessor} {step}"
            yield "an accessor must hand out what was loaded", "the bytes written", got
        case TreeMatch() if digest.missing or digest.elsewhere:
            got = f"{digest.sequence} without {digest.missing or 'none'} {digest.phase} {step}"
            yield "a tree must find every token where it is", "all tokens", got
        case StorageMatch(equal=False):
            got = f"other bytes of {digest.sequence} {digest.phase} {step}"
            yield "a prefetch must restore what was stored", "the bytes stored", got
        case _:
            pass


def new_failures(
    traces: Mapping[str, Trace], *, known: Mapping[str, Trace]
) -> dict[str, tuple[str, ...]]:
    """Return the failed checks by scenario, without those of the known trace of each."""
    found = {}
    for name, trace in traces.items():
        old = failed_checks(known[name]) if name in known else ()
        lines = tuple(line for line in failed_checks(trace) if line not in old)
        if lines:
            found[name] = lines
    return found


def summarise_failures(
    alone: Mapping[str, Sequence[str]], *, lacking: str, side: tuple[str, str]
) -> tuple[str, ...]:
    """Return one line at most for failed checks of scenarios that only one side has.

    ``lacking`` names the side that cannot run them, ``side`` target and name of the other one.
    """
    lines = [line for own in alone.values() for line in own]
    if len(lines) <= 1:
        return tuple(lines)
    target, name = side
    rule = f"what {lacking} cannot run must end well and restore every row"
    command = f"`goldentrace audit --target {target} --side {name}`"
    got = f"{len(lines)} complaints in {pluralise(len(alone), 'scenario')}, which {command} shows"
    return (_line("scenarios", rule, "no complaint", got),)


def _line(subject: str, rule: str, expected: str, got: str) -> str:
    return str(ToolError(subject, rule, expected=expected, got=got))
