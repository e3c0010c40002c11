"""What is known about a target's audit: findings with reasons, and where arguments come from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError
from traces.audit import (
    Lineage,
    Recordings,
    audit,
    outdated,
    parse_baseline,
    parse_lineage,
    unknown,
)
from traces.verdict import Cause, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is on file for one target; empty where there is no file.

    Attributes:
        baseline: reason of each known finding, by its key.
        lineage: where arguments came from.
    """

    baseline: Mapping[str, str]
    lineage: Lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What an audit came to.

    Attributes:
        new: findings that are not known.
        known_num: how many are known.
        faults: one line for each known finding that is none any more.
    """

    new: tuple[Cause, ...]
    known_num: int
    faults: tuple[str, ...]


NO_FINDINGS = Findings(new=(), known_num=0, faults=())


def baseline_path(root: Path, *, target: str) -> Path:
    """Return where the known findings of a target are kept."""
    return root / "traces" / "baseline" / f"{target}.toml"


def lineage_path(root: Path, *, target: str) -> Path:
    """Return where the lineage of a target is kept."""
    return root / "traces" / "lineage" / f"{target}.toml"


def read_known(root: Path, *, target: str, entries: Iterable[str]) -> Known:
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
    reasons = _read(baseline)
    sources = _read(lineage)
    return Known(
        baseline=parse_baseline(reasons, subject=_shown(baseline, root)) if reasons else {},
        lineage=(
            parse_lineage(sources, subject=_shown(lineage, root), entries=entries)
            if sources
            else {}
        ),
    )


def findings_of(
    recordings: Recordings,
    *,
    root: Path,
    target: str,
    entries: Iterable[str],
    more: tuple[Cause, ...],
    apart: frozenset[Kind],
) -> Findings:
    """Audit recordings and leave out what is known.

    Args:
        recordings: of one side, whole: of fewer scenarios every parameter is a blind spot.
        root: the checkout, which holds what is on file.
        target: whose side it is.
        entries: builders that scenarios play.
        more: findings that recordings cannot tell.
        apart: kinds of findings that are not asked for.

    Raises:
        ToolError: a file cannot be read.
        TraceFormatError: a file is not what it should be.
    """
    known = read_known(root, target=target, entries=entries)
    subject = _shown(baseline_path(root, target=target), root)
    found = (*audit(recordings, recorded=known.lineage), *more)
    causes = tuple(cause for cause in found if cause.kind not in apart)
    baseline = {
        key: reason for key, reason in known.baseline.items() if key.partition(" ")[0] not in apart
    }
    new = unknown(causes, baseline=baseline)
    rule = "a known finding must still be one"
    return Findings(
        new=new,
        known_num=len(causes) - len(new),
        faults=tuple(
            str(ToolError(subject, rule, expected="it to be removed from the file", got=repr(key)))
            for key in outdated(causes, baseline=baseline)
        ),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(str(path), "must be readable", expected="a file", got=error) from error


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
