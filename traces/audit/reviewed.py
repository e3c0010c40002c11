"""Findings of releases that were decided by reading the release's source.

A row has the kind of a finding and its subject as a shell pattern, so that one row serves every
release that has it, and says what it was decided to be.
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from traces.errors import TraceFormatError
from traces.schema.record import Record
from traces.schema.verdict import Cause, Kind

SCHEMA = "goldentrace.reviewed/1"
FAULT = "fault"


class FindingReview(Record, frozen=True):
    """One decision.

    Attributes:
        kind: of the findings.
        subject: shell pattern of their places.
        verdict: a ``fault`` of the release; ``by design``; ``ours``: the scenario asks for what the
            release does not do.
        reason: why.
        line: file and line of the release that show it.
        releases: that were read.
        name: of the fault in the catalogue; empty for none.
        evidence: of a fault, the smallest scenario that shows it and what was seen there.
    """

    kind: Kind
    subject: str
    verdict: Literal["fault", "by design", "ours"]
    reason: str
    line: str
    releases: tuple[str, ...]
    name: str = ""
    evidence: str = ""

    def decides(self, cause: Cause, release: str) -> bool:
        """Return whether this is the decision on a finding of a release."""
        is_same = cause.kind is self.kind and fnmatchcase(cause.where, self.subject)
        return is_same and release in self.releases


class _Reviews(Record, frozen=True):
    schema: str
    review: tuple[FindingReview, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedFindings:
    """The findings of a side, by what reviews say of its release.

    Attributes:
        open: findings that no review decides.
        faults: findings that are known faults of the release.
        settled: findings that are none.
    """

    open: tuple[Cause, ...]
    faults: tuple[Cause, ...]
    settled: tuple[Cause, ...]


def parse_reviews(text: str, *, subject: str) -> tuple[FindingReview, ...]:
    """Return the decisions that a file holds.

    Raises:
        TraceFormatError: the text is no such file.
    """
    try:
        found = msgspec.convert(tomllib.loads(text), _Reviews)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        rule, expected = "must hold reviews", "what docs/audit.md shows"
        raise TraceFormatError(subject, rule, expected=expected, got=error) from error
    if found.schema != SCHEMA:
        raise TraceFormatError(
            subject, "must have this schema", expected=repr(SCHEMA), got=repr(found.schema)
        )
    return found.review


def sort_findings(
    causes: Iterable[Cause], reviews: Sequence[FindingReview], release: str
) -> ReviewedFindings:
    """Sort findings by the first review of each, and name known faults in their messages."""
    sorted_causes: dict[str, list[Cause]] = {"open": [], "faults": [], "settled": []}
    for cause in causes:
        review = next((one for one in reviews if one.decides(cause, release)), None)
        if review is None:
            sorted_causes["open"].append(cause)
        elif review.verdict == FAULT:
            known = f"{review.name}: {review.reason}" if review.name else review.reason
            message = f"{cause.message} Reviewed: {known} ({review.line})."
            sorted_causes["faults"].append(msgspec.structs.replace(cause, message=message))
        else:
            sorted_causes["settled"].append(cause)
    return ReviewedFindings(**{name: tuple(found) for name, found in sorted_causes.items()})
