"""What is known about a target's audit: findings with reasons, and where arguments come from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError
from traces.audit import (
    Lineage,
    Recordings,
    audit,
    outdated_keys,
    parse_baseline,
    parse_lineage,
    unknown_findings,
)
from traces.schema.verdict import Cause, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditBaseline:
    """What is on file for one target; empty where there is no file.

    Attributes:
        baseline: reason of each known finding, by its key.
        lineage: where arguments came from.
    """

    baseline: Mapping[str, str]
    lineage: Lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFindings:
    """What an audit came to.

    Attributes:
        new: findings that are not known.
        known_num: how many are known.
        faults: one line for each known finding that is none any more.
    """

    new: tuple[Cause, ...]
    known_count: int
    faults: tuple[str, ...]


NO_FINDINGS = AuditFindings(new=(), known_count=0, faults=())


def baseline_path(root: Path, *, target: str) -> Path:
    """Return where the known findings of a target are kept."""
    return root / "traces" / "baseline" / f"{target}.toml"


def lineage_path(root: Path, *, target: str) -> Path:
    """Return where the lineage of a target is kept."""
    return root / "traces" / "lineage" / f"{target}.toml"


def read_audit_baseline(root: Path, *, target: str, entries: Iterable[str]) -> AuditBaseline:
    """Read what is on file for a target.

    Args:
        root: the checkout.
        target: its name.
        entries: builders that scenarios play.

    Raises:
        ToolError: a file cannot be read.
        TraceFormatError: a file is not what it should be.
    """
    baseline, lineage = baseline_path(root, target=target), lineage_path(root, target=target)
    reasons = _read_text(baseline)
    sources = _read_text(lineage)
    return AuditBaseline(
        baseline=parse_baseline(reasons, subject=_relative_path(baseline, root)) if reasons else {},
        lineage=(
            parse_lineage(sources, subject=_relative_path(lineage, root), entries=entries)
            if sources
            else {}
        ),
    )


def audit_against_baseline(
    recordings: Recordings,
    *,
    root: Path,
    target: str,
    entries: Iterable[str],
    extra: tuple[Cause, ...],
    excluded_kinds: frozenset[Kind],
) -> AuditFindings:
    """Audit recordings and leave out what is known.

    Args:
        recordings: of one side, whole: of fewer scenarios every parameter is a blind spot.
        root: the checkout, which holds what is on file.
        target: whose side it is.
        entries: builders that scenarios play.
        extra: findings that recordings cannot tell.
        excluded_kinds: kinds of findings that are not asked for.

    Raises:
        ToolError: a file cannot be read.
        TraceFormatError: a file is not what it should be.
    """
    known = read_audit_baseline(root, target=target, entries=entries)
    subject = _relative_path(baseline_path(root, target=target), root)
    found = (*audit(recordings, recorded=known.lineage), *extra)
    causes = tuple(cause for cause in found if cause.kind not in excluded_kinds)
    baseline = {
        key: reason
        for key, reason in known.baseline.items()
        if key.partition(" ")[0] not in excluded_kinds
    }
    new = unknown_findings(causes, baseline=baseline)
    rule = "a known finding must still be one"
    return AuditFindings(
        new=new,
        known_count=len(causes) - len(new),
        faults=tuple(
            str(ToolError(subject, rule, expected="it to be removed from the file", got=repr(key)))
            for key in outdated_keys(causes, baseline=baseline)
        ),
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(str(path), "must be readable", expected="a file", got=error) from error


def _relative_path(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
