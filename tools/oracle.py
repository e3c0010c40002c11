"""What a trace says against itself, without any other trace to compare it with."""

from tools.errors import ToolError
from traces.model import RoundTrip, Trace


def complaints(trace: Trace) -> tuple[str, ...]:
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


def _line(subject: str, rule: str, expected: str, got: str) -> str:
    return str(ToolError(subject, rule, expected=expected, got=got))
