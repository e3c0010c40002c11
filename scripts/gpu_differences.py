"""Declared differences between a GPU and the simulation in traces of sglang, with reasons.

A field belongs here only when hardware decides its value; everything else must be equal.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from traces.schema.model import Digest, DigestRecord, Reading, RoundTrip, Trace, TreeMatch
from traces.schema.races import Race
from traces.schema.storage_records import StorageMatch

REFUSED = "Tensor match failed for "
_BY_TRITON = ("get_index_k_continuous", "get_index_k_scale_continuous")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredGpuDifference:
    """One difference.

    Attributes:
        reason: why the two may differ; shown in reports.
        applies: returns whether it concerns a simulated trace and the real one.
        without: removes the fields that may differ; None when nothing can be compared.
    """

    reason: str
    applies: Callable[[Trace, Trace], bool]
    without: Callable[[Trace], Trace] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuComparison:
    """Result of one scenario on both.

    Attributes:
        is_equal: whether the rest is equal; None when nothing could be compared.
        reasons: of the declared differences that were applied.
    """

    is_equal: bool | None
    reasons: tuple[str, ...]


def compare_with_gpu(simulated: Trace, real: Trace) -> GpuComparison:
    """Compare a simulated trace with a real one after removing the declared differences."""
    if simulated == real:
        return GpuComparison(is_equal=True, reasons=())
    used: list[str] = []
    sides = (simulated, real)
    for declared in DECLARED_DIFFERENCES:
        if not declared.applies(simulated, real):
            continue
        used.append(declared.reason)
        if declared.without is None:
            return GpuComparison(is_equal=None, reasons=tuple(used))
        sides = (declared.without(sides[0]), declared.without(sides[1]))
    return GpuComparison(is_equal=sides[0] == sides[1], reasons=tuple(used))


def _has_race(simulated: Trace, real: Trace) -> bool:
    del real
    return any(isinstance(event, Race) for event in simulated.events)


def _without_raced_content(trace: Trace) -> Trace:
    events = tuple(event for event in trace.events if not isinstance(event, Race))
    return msgspec.structs.replace(
        trace, events=events, digests=tuple(map(_without_content, trace.digests))
    )


def _without_content(record: DigestRecord) -> DigestRecord:
    match record:
        case Digest():
            return msgspec.structs.replace(record, sha256="")
        case RoundTrip():
            return msgspec.structs.replace(record, equal=False, wrong_slots="", foreign_slots="")
        case Reading():
            return msgspec.structs.replace(record, equal=False)
        case TreeMatch():
            return msgspec.structs.replace(record, found=False, missing="", elsewhere="")
        case StorageMatch():
            return msgspec.structs.replace(record, equal=None)
        case _:
            return record


def _is_refused(simulated: Trace, real: Trace) -> bool:
    failure = real.outcome.failure
    return simulated.outcome.ok and failure is not None and failure.message.startswith(REFUSED)


def _has_read_more(simulated: Trace, real: Trace) -> bool:
    return bool(_readers(real) - _readers(simulated))


def _readers(trace: Trace) -> set[str]:
    return {
        record.accessor
        for record in trace.digests
        if isinstance(record, Reading) and _is_by_triton(record)
    }


def _without_triton(trace: Trace) -> Trace:
    kept = tuple(record for record in trace.digests if not _is_by_triton(record))
    return msgspec.structs.replace(trace, digests=kept)


def _is_by_triton(record: object) -> bool:
    return isinstance(record, Reading) and record.accessor in _BY_TRITON


DECLARED_DIFFERENCES = (
    DeclaredGpuDifference(
        reason="kernels that a release compiles on a GPU compare widths; its others do not",
        applies=_is_refused,
        without=None,
    ),
    DeclaredGpuDifference(
        reason="accessors that launch Triton kernels hand out nothing in simulation",
        applies=_has_read_more,
        without=_without_triton,
    ),
    DeclaredGpuDifference(
        reason="the simulation found a race: what the bytes are is undefined",
        applies=_has_race,
        without=_without_raced_content,
    ),
)
