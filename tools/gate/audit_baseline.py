"""Audit findings less the known ones, which ``traces/baseline`` holds with their reasons."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError
from traces.audit import (
    Recordings,
    audit,
    outdated_keys,
    parse_baseline,
    parse_lineage,
    unknown_findings,
)
from traces.schema.verdict import Cause, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFindings:
    """The result of an audit.

    Attributes:
        new: findings that are not known.
        known_count: number of known ones.
        faults: one line for each known finding that no longer occurs.
    """

    new: tuple[Cause, ...]
    known_count: int
    faults: tuple[str, ...]


NO_FINDINGS = AuditFindings(new=(), known_count=0, faults=())


def baseline_path(root: Path, *, target: str) -> Path:
    """Return the file with the known findings of a target."""
    return root / "traces" / "baseline" / f"{target}.toml"


def lineage_path(root: Path, *, target: str) -> Path:
    """Return the file with the lineage of a target."""
    return root / "traces" / "lineage" / f"{target}.toml"


def audit_against_baseline(
    recordings: Recordings,
    *,
    root: Path,
    target: str,
    entries: Iterable[str],
    extra: tuple[Cause, ...],
    excluded_kinds: frozenset[Kind],
) -> AuditFindings:
    """Audit the whole of one side and leave out findings that are known or of excluded kinds.

    Of fewer scenarios every parameter would be a blind spot. ``entries`` are the builders that
    scenarios call, ``extra`` findings that do not come from recordings. A target may have neither
    baseline nor lineage.

    Raises:
        ToolError: a file cannot be read.
        TraceFormatError: a file does not have its format.
    """
    reasons, subject = _read_text(baseline_path(root, target=target), root)
    sources, lineage = _read_text(lineage_path(root, target=target), root)
    recorded = parse_lineage(sources, subject=lineage, entries=entries) if sources else {}
    known = parse_baseline(reasons, subject=subject) if reasons else {}
    found = (*audit(recordings, recorded=recorded), *extra)
    causes = tuple(cause for cause in found if cause.kind not in excluded_kinds)
    baseline = {
        key: reason for key, reason in known.items() if key.partition(" ")[0] not in excluded_kinds
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


def _read_text(path: Path, root: Path) -> tuple[str, str]:
    """Return the text of a file, empty without one, and its name for messages."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(str(path), "must be readable", expected="a file", got=error) from error
    return text, path.relative_to(root).as_posix()
