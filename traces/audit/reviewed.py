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
        fault: what is wrong, in the words that all rows of one fault have; empty for the reason.
        name: of the fault in the catalogue; empty for none.
        evidence: of a fault, the smallest scenario that shows it and what was seen there.
    """

    kind: Kind
    subject: str
    verdict: Literal["fault", "by design", "ours"]
    reason: str
    line: str
    releases: tuple[str, ...]
    fault: str = ""
    name: str = ""
    evidence: str = ""

    @property
    def wrong(self) -> str:
        """The fault in words; every row of one fault has the same."""
        return self.fault or self.reason

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
        faults: findings that are known faults of the release, each with what is wrong.
        settled: findings that are none.
    """

    open: tuple[Cause, ...]
    faults: tuple[tuple[Cause, str], ...]
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
    open_findings, settled = [], []
    faults: list[tuple[Cause, str]] = []
    for cause in causes:
        review = next((one for one in reviews if one.decides(cause, release)), None)
        if review is None:
            open_findings.append(cause)
        elif review.verdict == FAULT:
            known = f"{review.name}: {review.wrong}" if review.name else review.wrong
            message = f"{cause.message} Reviewed: {known} ({review.line})."
            faults.append((msgspec.structs.replace(cause, message=message), review.wrong))
        else:
            settled.append(cause)
    return ReviewedFindings(open=tuple(open_findings), faults=tuple(faults), settled=tuple(settled))
