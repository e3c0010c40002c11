"""Figures of a campaign as text, markdown or JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TypeAlias

import msgspec

from tools.mutation.campaign.neutral_driver import FalseAlarmReport
from tools.mutation.report.statistics import MutationStatistics, OperatorScore, Survivor
from tools.mutation.trace_fields import SECTIONS
from tools.report.phrases import pluralise

_Table: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]]]


class MutationReportFormat(StrEnum):
    """How figures are printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def render_statistics(figures: MutationStatistics, *, form: MutationReportFormat) -> str:
    """Return the figures in a form."""
    if form is MutationReportFormat.JSON:
        return msgspec.json.format(msgspec.json.encode(figures), indent=2).decode() + "\n"
    table = _markdown if form is MutationReportFormat.MARKDOWN else _aligned
    blocks = [
        _headline(figures),
        _first_cause(figures),
        table(*_scores(figures)),
        table(*_matrix(figures)),
        table(*_fields(figures)),
        _listed("never kill alone: candidates for leaving the golden", figures.candidates),
        _listed("first cause not right", figures.wrong),
        _survivors(figures),
        _listed("explained in the ledger but killed", figures.stale),
        *figures.notes,
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def render_false_alarms(found: FalseAlarmReport, *, form: MutationReportFormat) -> str:
    """Return what came of neutral stacks in a form."""
    if form is MutationReportFormat.JSON:
        return msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
    table = _markdown if form is MutationReportFormat.MARKDOWN else _aligned
    kinds = [(kind, str(number)) for kind, number in found.refactors.items()]
    applied = sum(found.refactors.values())
    head = (
        f"{pluralise(found.stacks, 'stack')} of harmless refactors, {applied} refactors: "
        f"{pluralise(len(found.alarms), 'false alarm')}"
    )
    alarms = [
        f"seed {alarm.seed}: {'; '.join(alarm.steps)}\n  " + "\n  ".join(alarm.differences)
        for alarm in found.alarms
    ]
    return "\n\n".join([head, table(("refactor", "applied"), kinds), *alarms]) + "\n"


def format_percent(part: int, whole: int) -> str:
    """Return a share with one digit; rounded down, so that 100.0 means all."""
    return "-" if not whole else f"{part * 1000 // whole / 10:.1f} %"


def _headline(figures: MutationStatistics) -> str:
    total = figures.total
    explained = len(figures.survivors) - len(figures.unexplained)
    return (
        f"{figures.target} {figures.side}: {figures.distinct} distinct mutants, "
        f"{total.silent} silent, {total.killed} of them killed "
        f"({format_percent(total.killed, total.silent)}); {total.equivalent} proven equivalent; "
        f"{pluralise(total.survived, 'survivor')}, {total.unreached} not executed by any scenario, "
        f"{explained} of these explained; {total.loud} loud"
    )


def _first_cause(figures: MutationStatistics) -> str:
    found = figures.first_cause
    rest = found.kills - found.with_parameter
    return (
        f"first cause: names the changed parameter in {found.parameter} of "
        f"{found.with_parameter} kills ({format_percent(found.parameter, found.with_parameter)}), "
        f"points at the changed line in {found.line} of {found.kills} "
        f"({format_percent(found.line, found.kills)}), into its function in {found.function} "
        f"({format_percent(found.function, found.kills)}); right (parameter, or line for the "
        f"{rest} without one) in {found.right} ({format_percent(found.right, found.kills)})"
    )


def _scores(figures: MutationStatistics) -> _Table:
    head = ("operator", "mutants", "silent", "killed", "score", "equivalent", "survived")
    rows = [
        (
            score.operator,
            str(score.mutants),
            str(score.silent),
            str(score.killed),
            format_percent(score.killed, score.silent),
            str(score.equivalent),
            str(score.survived),
            str(score.unreached),
            str(score.loud),
        )
        for score in (*figures.scores, figures.total)
    ]
    return (*head, "unreached", "loud"), rows


def _matrix(figures: MutationStatistics) -> _Table:
    def cells(score: OperatorScore) -> Iterable[str]:
        for part in SECTIONS:
            alone = score.alone[part]
            yield f"{score.by_section[part]} ({alone})" if alone else str(score.by_section[part])

    rows = [(score.operator, *cells(score)) for score in (*figures.scores, figures.total)]
    return ("killed by (alone)", *SECTIONS), rows


def _fields(figures: MutationStatistics) -> _Table:
    rows = [(use.field, str(use.kills), str(use.alone)) for use in figures.fields]
    return ("field of the trace", "kills", "alone"), rows


def _survivors(figures: MutationStatistics) -> str:
    by_reason: Mapping[str, list[str]] = _grouped(
        (
            survivor.reason or "NOT EXPLAINED",
            _survivor(survivor),
        )
        for survivor in figures.survivors
    )
    return "\n\n".join(_listed(f"survivors: {why}", lines) for why, lines in by_reason.items())


def _survivor(survivor: Survivor) -> str:
    reaching = pluralise(survivor.reaching, "scenario")
    return f"{survivor.operator} {survivor.label} ({reaching} reach it)"


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _listed(title: str, lines: Sequence[str]) -> str:
    return (
        "\n".join([f"{title} ({len(lines)}):", *(f"- {line}" for line in lines)]) if lines else ""
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    place: Callable[[str, int], str] = str.rjust
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else place(cell, width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *rows)
    )
