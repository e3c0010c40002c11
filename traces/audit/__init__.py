"""Findings from one side's recordings: no golden and no second version are needed.

Pure functions over recordings; each rule is a module and says what it can and cannot see.
"""

from traces.audit.conservation import unconserved
from traces.audit.coverage import Cell, State, blind_spots, matrix
from traces.audit.facts import Recordings
from traces.audit.finding import FINDING_LAYER, key_of, merged
from traces.audit.lineage import Lineage, changed_sources, lineage_of
from traces.audit.mirrors import unrestored
from traces.audit.outcomes import failures
from traces.audit.readiness import unready_reads
from traces.audit.record import (
    outdated,
    parse_baseline,
    parse_lineage,
    render_lineage,
    unknown,
)
from traces.audit.siblings import disagreements
from traces.verdict import Cause

__all__ = [
    "FINDING_LAYER",
    "Cell",
    "Lineage",
    "Recordings",
    "State",
    "audit",
    "key_of",
    "lineage_of",
    "matrix",
    "outdated",
    "parse_baseline",
    "parse_lineage",
    "render_lineage",
    "unknown",
]


def audit(recordings: Recordings, *, recorded: Lineage) -> tuple[Cause, ...]:
    """Return the findings of every rule, each once, the worst first.

    Args:
        recordings: of one side, by scenario; with their sites, which name lines and defaults.
        recorded: where arguments came from when that was last looked at; empty for no opinion.
    """
    return merged(
        (
            *unrestored(recordings),
            *unconserved(recordings),
            *unready_reads(recordings),
            *failures(recordings),
            *disagreements(recordings),
            *changed_sources(recordings, recorded=recorded),
            *blind_spots(recordings),
        )
    )
