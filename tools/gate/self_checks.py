"""What a trace says against itself, without any other trace to compare it with."""

from collections.abc import Mapping, Sequence

from tools.errors import ToolError
from tools.report.phrases import pluralise
from traces.schema.model import RoundTrip, Trace


def failed_checks(trace: Trace) -> tuple[str, ...]:
    """Return one line for each round trip that did not restore its rows, and for a failed outcome.

    Two traces of one scenario that fail in the same way give the same lines.
    """
    name = trace.scenario.name
    lines: list[str] = []
    for digest in trace.digests:
        if not isinstance(digest, RoundTrip):
            continue
        where = f"{digest.pool} in step {digest.step!r}"
        if not digest.equal:
            rule = "a round trip must restore every row"
            lines.append(_line(name, rule, "none wrong", f"{digest.wrong_slots} of {where}"))
        if digest.foreign_slots:
            rule = "a load must leave other slots alone"
            lines.append(_line(name, rule, "none touched", f"{digest.foreign_slots} of {where}"))
    if not trace.outcome.ok:
        failure = trace.outcome.failure
        said = "no reason" if failure is None else f"{failure.type}: {failure.message}"
        step = trace.outcome.failed_step
        lines.append(_line(name, "must end well", "outcome ok", f"{said} in step {step!r}"))
    return tuple(lines)


def new_failures(
    traces: Mapping[str, Trace], *, known: Mapping[str, Trace]
) -> dict[str, tuple[str, ...]]:
    """Return the complaints of traces by scenario, less those of the known trace of each."""
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
    """Return one line at most for complaints that nothing was compared with.

    Args:
        alone: complaints by scenario.
        lacking: the side that cannot play these scenarios.
        side: target and name of the side that complains.
    """
    lines = [line for own in alone.values() for line in own]
    if len(lines) <= 1:
        return tuple(lines)
    target, name = side
    rule = f"what {lacking} cannot play must end well and restore every row"
    told = f"`goldentrace audit --target {target} --side {name}`"
    got = f"{len(lines)} complaints in {pluralise(len(alone), 'scenario')}, which {told} shows"
    return (_line("scenarios", rule, "no complaint", got),)


def _line(subject: str, rule: str, expected: str, got: str) -> str:
    return str(ToolError(subject, rule, expected=expected, got=got))
