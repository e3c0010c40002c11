"""Statistics of a campaign as text, Markdown or JSON."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from tools.mutation.campaign.neutral_driver import FalseAlarmReport
from tools.mutation.report.statistics import (
    VERDICTS,
    MutationStatistics,
    OperatorScore,
    Survivor,
)
from tools.mutation.trace_fields import SECTIONS
from tools.report.markdown import markdown_table
from traces.text.phrases import pluralise


class MutationReportFormat(StrEnum):
    """The forms of a report."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def render_statistics(found: MutationStatistics, *, form: MutationReportFormat) -> str:
    """Return the report of a campaign."""
    if form is MutationReportFormat.JSON:
        return _json(found)
    scores = (*found.scores, found.total)
    explained = {survivor.reason: None for survivor in found.survivors}
    blocks = [
        _headline(found),
        _first_cause(found),
        _table(
            ["operator", "mutants", "silent", "score", *VERDICTS], map(_score_row, scores), form
        ),
        _table(["killed by (alone)", *SECTIONS], map(_section_row, scores), form),
        _table(
            ["field of the trace", "kills", "alone"],
            [(use.field, str(use.kills), str(use.alone)) for use in found.fields],
            form,
        ),
        _list("never kill alone: candidates for leaving the golden", found.candidates),
        _list("first cause not right", found.wrong),
        _list("gate could not judge", found.unjudged),
        _unexecuted(found, form),
        *(
            _list(
                f"survivors: {reason or 'NOT EXPLAINED'}",
                [
                    f"{one.operator} {one.label} ({_reached(one)})"
                    for one in found.survivors
                    if one.reason == reason
                ],
            )
            for reason in explained
        ),
        _list("explained as survivors but killed", found.stale),
        *found.notes,
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def render_false_alarms(found: FalseAlarmReport, *, form: MutationReportFormat) -> str:
    """Return the report of a run of neutral refactors."""
    if form is MutationReportFormat.JSON:
        return _json(found)
    asked = "" if found.stacks == found.asked else f" (of {found.asked}, interrupted)"
    head = (
        f"{pluralise(found.stacks, 'stack')} of harmless refactors{asked}, "
        f"{pluralise(sum(found.refactors.values()), 'refactor')}: "
        f"{pluralise(len(found.alarms), 'false alarm')}"
    )
    kinds = [(kind, str(number)) for kind, number in found.refactors.items()]
    alarms = [
        f"seed {alarm.seed}: {'; '.join(alarm.steps)}\n  " + "\n  ".join(alarm.differences)
        for alarm in found.alarms
    ]
    return "\n\n".join([head, _table(["refactor", "applied"], kinds, form), *alarms]) + "\n"


def format_percent(part: int, whole: int) -> str:
    """Return a share with one digit; rounded down, so that 100.0 means all."""
    return "-" if not whole else f"{part * 1000 // whole / 10:.1f} %"


def _json(found: msgspec.Struct) -> str:
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"


def _headline(found: MutationStatistics) -> str:
    total = found.total
    explained = len(found.survivors) - len(found.unexplained)
    unjudged = f"; {total.unjudged} could not be judged" if total.unjudged else ""
    same = (
        f", {format_percent(total.killed, total.faults)} without "
        f"{pluralise(total.same_program, 'survivor')} that no input tells from the source"
        if total.same_program
        else ""
    )
    return (
        f"{found.target} {found.side}: {found.distinct} distinct mutants, "
        f"{total.silent} silent, {total.killed} of them killed "
        f"({format_percent(total.killed, total.silent)}{same}); "
        f"{total.equivalent} proven equivalent; "
        f"{pluralise(total.survived, 'survivor')}, {total.unreached} not executed by any scenario, "
        f"{explained} of these explained; {total.loud} loud{unjudged}"
    )


def _first_cause(found: MutationStatistics) -> str:
    first = found.first_cause
    rest = first.kills - first.with_parameter
    named = format_percent(first.parameter, first.with_parameter)
    return (
        f"first cause: names the changed parameter in {first.parameter} of "
        f"{first.with_parameter} kills ({named}), points "
        f"at the changed line in {first.line} of {first.kills} "
        f"({format_percent(first.line, first.kills)}), into its function in {first.function} "
        f"({format_percent(first.function, first.kills)}); right (parameter, or line for the "
        f"{rest} without one) in {first.right} ({format_percent(first.right, first.kills)})"
    )


def _score_row(score: OperatorScore) -> list[str]:
    share = format_percent(score.killed, score.silent)
    counts = [str(getattr(score, verdict)) for verdict in VERDICTS]
    return [score.operator, str(score.mutants), str(score.silent), share, *counts]


def _section_row(score: OperatorScore) -> list[str]:
    pairs = [(score.by_section[part], score.alone[part]) for part in SECTIONS]
    texts = (f"{kills} ({alone})" if alone else f"{kills}" for kills, alone in pairs)
    return [score.operator, *texts]


def _unexecuted(found: MutationStatistics, form: MutationReportFormat) -> str:
    if not found.unexecuted:
        return ""
    reasons = list(dict.fromkeys(reason for one in found.unexecuted for reason in one.reasons))
    rows = (
        [one.operator, str(one.sites), *(str(one.reasons.get(reason, 0)) for reason in reasons)]
        for one in found.unexecuted
    )
    return _table(["sites that no scenario executes", "of", *reasons], rows, form)


def _reached(one: Survivor) -> str:
    reached = f"{pluralise(one.reaching, 'scenario')} reach it"
    if not one.reaching:
        return reached
    return f"{reached}, {'other state in ' + one.state if one.state else 'state cannot be read'}"


def _list(title: str, lines: Sequence[str]) -> str:
    heading = f"{title} ({len(lines)}):"
    return "\n".join([heading, *(f"- {line}" for line in lines)]) if lines else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], form: MutationReportFormat) -> str:
    lines = [head, *rows]
    if form is MutationReportFormat.MARKDOWN:
        return markdown_table(head, lines[1:]).rstrip("\n")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )
