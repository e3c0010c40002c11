"""Tables and JSON of surveys and backtests."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from tools.releases.backtest import BacktestResult
from tools.releases.survey import KnownChange, ReleaseStep, explain_cause, tabulate_coverage
from tools.report.markdown import markdown_table
from tools.sides.results import SideResults


def steps_table(steps: Sequence[ReleaseStep], *, known: Sequence[KnownChange]) -> str:
    """Return every cause of every step with what is known of it, as Markdown."""
    rows = []
    for step in steps:
        name = f"{step.base} to {step.head}"
        for cause in step.causes:
            what, reason = explain_cause(step, cause, known=known)
            rows.append((name, cause.headline(), what, reason))
        if not step.causes:
            rows.append((name, f"none in {step.scenarios} scenarios", "-", ""))
    return markdown_table(("step", "cause", "what it is", "why"), rows)


def builders_table(results: Mapping[str, SideResults]) -> str:
    """Return builders against sides, and whether a scenario reaches each, as Markdown."""
    table = tabulate_coverage(results)
    rows = [(name, *(row[side] for side in results)) for name, row in table.items()]
    return markdown_table(("builder or strategy", *results), rows)


def findings_table(findings: Sequence[BacktestResult]) -> str:
    """Return every fault with the findings of gate and audit, as Markdown."""
    rows = [
        (
            finding.fault.id,
            finding.fault.good or "none",
            finding.fault.bad,
            finding.gate,
            _cause_position(finding),
            f"{finding.shown} {finding.location}".strip(),
            _hunks_text(finding),
            finding.audit or "-",
            finding.result,
            f"{finding.seconds:.0f}",
        )
        for finding in findings
    ]
    start = ("case", "good", "bad", "gate", "first cause", "cause or reason")
    head = (*start, "made by", "audit of bad side", "together", "seconds")
    by_gate = sum(finding.gate == "caught" for finding in findings)
    by_audit = sum(bool(finding.audit) for finding in findings)
    together = sum(finding.result == "caught" for finding in findings)
    totals = markdown_table(
        (f"of {len(findings)} faults", "gate", "audit of the bad side alone", "together"),
        [("caught", str(by_gate), str(by_audit), str(together))],
    )
    return "\n".join((markdown_table(head, rows), totals))


def _cause_position(finding: BacktestResult) -> str:
    if finding.gate != "caught":
        return "-"
    return "yes" if finding.is_first else f"no, {finding.place + 1} of {finding.causes}"


def _hunks_text(finding: BacktestResult) -> str:
    first, more = finding.made_by[:1], len(finding.made_by) - 1
    return (first[0] if first else "-") + (f" and {more} more" if more > 0 else "")


def result_json(finding: BacktestResult) -> dict[str, Any]:
    """Return one fault with what was found, for JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(asdict(finding))
    return {**plain, "fault": finding.fault.id}


def survey_json(results: Mapping[str, SideResults], steps: Sequence[ReleaseStep]) -> dict[str, Any]:
    """Return a survey for JSON."""
    return {
        "steps": [msgspec.to_builtins(asdict(step)) for step in steps],
        "builders": tabulate_coverage(results),
        "unplayable": {side: dict(one.unplayable) for side, one in results.items()},
        "seconds": {side: one.seconds for side, one in results.items()},
    }
