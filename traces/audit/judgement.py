"""Evidence and confidence of findings: what a reviewer can check, and how sure the finding is.

The rule of confidence reads what was observed:

* ``certain``: bytes, slots, layers, counts or pointers were seen to be wrong, or the scenario ended
  with an exception that the release does not raise on purpose;
* ``likely``: an order or a wiring is missing and the bytes came out right this time, or rows were
  never moved, which is right only if the model makes them again; a wiring that differs in a
  scenario with a certain finding;
* ``possible``: a wiring differs and nothing that was observed depends on it; the release refused
  something on purpose.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from traces.audit.assembly_calls import Recordings, value_text
from traces.schema.model import Reading
from traces.schema.verdict import Cause, Confidence, Kind

_COVERAGE_KINDS = frozenset(
    (Kind.PARAMETER_BLIND_SPOT, Kind.UNCALLED_METHOD, Kind.UNCOVERED_BUILDER)
)

_OBSERVED = frozenset(
    (
        Kind.STALE_AFTER_RESTORE,
        Kind.ROW_BYTES_MISMATCH,
        Kind.LAYERS_CHANGED,
        Kind.BUFFER_INFO_MISMATCH,
        Kind.PAGE_MISMATCH,
        Kind.STATE_LEFT_BEHIND,
        Kind.STORAGE_KEY_COLLISION,
        Kind.UNBALANCED,
    )
)
_WIRING = frozenset((Kind.SIBLING_DISAGREEMENT, Kind.ARGUMENT_CHANGED))
_REFUSALS = ("AssertionError", "NotImplementedError", "ValueError")
"""Exceptions that code raises on purpose when it does not support what it was asked for."""


def is_coverage(cause: Cause) -> bool:
    """Return whether a finding is about our scenarios, not about the code that was run.

    A scenario that the code refused asks for something that it does not have.
    """
    is_refusal = cause.kind is Kind.OUTCOME_CHANGED and cause.confidence == "possible"
    return is_refusal or cause.kind in _COVERAGE_KINDS


def judged_findings(causes: Iterable[Cause], recordings: Recordings) -> tuple[Cause, ...]:
    """Return findings with their evidence and confidence."""
    found = tuple(causes)
    broken = {
        scenario
        for cause in found
        if _alone(cause, recordings) == "certain"
        for scenario in cause.scenarios
    }
    return tuple(
        msgspec.structs.replace(
            cause,
            evidence=_evidence(cause),
            confidence=_confidence(cause, recordings, broken),
        )
        for cause in found
    )


def _confidence(cause: Cause, recordings: Recordings, broken: set[str]) -> Confidence:
    if cause.kind in _WIRING:
        return "likely" if broken.intersection(cause.scenarios) else "possible"
    return _alone(cause, recordings)


def _alone(cause: Cause, recordings: Recordings) -> Confidence:
    """Return how sure a finding is without the others."""
    if cause.kind in _WIRING or cause.kind in _COVERAGE_KINDS:
        return "possible"
    if cause.kind is Kind.OUTCOME_CHANGED:
        traces = (recordings[name].trace for name in cause.scenarios if name in recordings)
        failures = [trace.outcome.failure for trace in traces]
        refused = all(one is not None and one.type in _REFUSALS for one in failures)
        return "possible" if failures and refused else "certain"
    return "certain" if cause.kind in _OBSERVED or _read_stale(cause, recordings) else "likely"


def _read_stale(cause: Cause, recordings: Recordings) -> bool:
    """Return whether an accessor that did not wait handed out stale rows in a scenario of it."""
    return cause.kind is Kind.READ_BEFORE_READY and any(
        isinstance(one, Reading) and not (one.waited or one.equal)
        for name in cause.scenarios
        if name in recordings
        for one in recordings[name].trace.digests
    )


def _evidence(cause: Cause) -> str:
    """Return one line: what was seen, where, and in which scenario first."""
    place = "" if cause.location is None else f"{cause.location.file}:{cause.location.line}"
    scenario = f"in {cause.scenarios[0]}" if cause.scenarios else ""
    return "; ".join(filter(None, (_observation(cause.before, cause.after), place, scenario)))


def _observation(before: Any, after: Any) -> str:  # noqa: ANN401 - any encoded value
    if isinstance(after, Mapping) and "wrong_slots" in after:
        wrong, foreign = after["wrong_slots"], after["foreign_slots"]
        beside = f"slots {foreign} overwritten beside" if foreign else ""
        return ", ".join(filter(None, (f"slots {wrong} wrong" if wrong else "", beside)))
    return f"expected {value_text(before)}, got {value_text(after)}"
