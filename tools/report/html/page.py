"""The page: a verdict, and what the recordings of both sides say about it, in one HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tools.report.explanations import explanations
from tools.report.html.history import GoldenCommit
from tools.report.html.memory_map import PoolMap, RowPair, bytes_text, memory_map
from tools.report.html.timeline import timeline
from tools.report.text import HEADLINES
from traces.audit.coverage import CoverageCell, CoverageState, coverage_matrix
from traces.schema.model import Recording, Trace
from traces.schema.verdict import Cause, Verdict
from traces.text import phrases

_FOLDER = Path(__file__).parent
_MAX_DRAWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """Content of the page: verdict, recordings of both sides, history.

    Attributes:
        base: recordings by scenario.
        head: the same of the side that is judged.
        history: newest first.
    """

    verdict: Verdict
    base: Mapping[str, Recording]
    head: Mapping[str, Recording]
    history: Sequence[GoldenCommit] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _DrawnSide:
    title: str
    pools: tuple[PoolMap, ...]

    @property
    def largest(self) -> int:
        return max((bar.bytes for pool in self.pools for bar in pool.buffers), default=0) or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _DrawnScenario:
    name: str
    sides: tuple[_DrawnSide, ...]

    @property
    def mismatches(self) -> str:
        """The rows of the last side that differ between device and host; empty for none."""
        found = [
            f"{pool.pool}.{row.plane}: device {row.device_bytes} B, {_host_text(row)}"
            for pool in self.sides[-1].pools
            for row in pool.rows
            if row.differs or row.is_alone
        ]
        return "; ".join(found)


def render_page(content: PageContent) -> str:
    """Return the page; it needs no network and no other file.

    Memory and transfers are drawn of at most 12 scenarios that differ, both sides beside each
    other, and of the one with most events where none differs.
    """
    environment = Environment(
        loader=PackageLoader("tools.report.html", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    verdict = content.verdict
    drawn = [_drawn_scenario(name, content) for name in _drawn_names(content)]
    drawn.sort(key=lambda scenario: not scenario.mismatches)
    names = [scenario.name for scenario in drawn]
    cells = coverage_matrix(content.head)
    return environment.get_template("page.html.j2").render(
        verdict=verdict,
        headline=HEADLINES[verdict.verdict],
        sides=phrases.sides_line(verdict),
        counts=phrases.counts_lines(verdict),
        causes=[_cause_item(cause) for cause in verdict.causes],
        kinds=list(dict.fromkeys(cause.kind for cause in verdict.causes)),
        levels=list(dict.fromkeys(cause.level for cause in verdict.causes)),
        drawn=drawn,
        left_out=_left_out_text(content, names),
        coverage=[
            (callee, list(group)) for callee, group in groupby(cells, key=lambda cell: cell.callee)
        ],
        coverage_counts=_coverage_counts(cells),
        history=content.history,
        bytes_text=bytes_text,
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup((_FOLDER / "page.js").read_text(encoding="utf-8")),
        data=_embedded_json({"timelines": {name: _timelines(name, content) for name in names}}),
    )


def _embedded_json(value: object) -> Markup:
    """Return JSON that no tag in it can end."""
    text = msgspec.json.encode(value).decode()
    return Markup(text.replace("<", "\\u003c"))


def _cause_item(cause: Cause) -> dict[str, Any]:
    return {
        "cause": cause,
        "subject": phrases.subject_text(cause),
        "change": phrases.value_texts(cause) if phrases.has_change(cause) else None,
        "place": phrases.place_text(cause),
        "chain": phrases.chain_text(cause),
        "hunks": cause.made_by or tuple(filter(None, [cause.source])),
        "consequences": [
            list(map(phrases.consequence_text, parts))
            for parts in phrases.split_consequences(cause)
        ],
        "explained": explanations()[cause.kind],
    }


def _traces(name: str, content: PageContent) -> list[tuple[str, Trace]]:
    """Return the traces of a scenario with their titles: one when both sides are equal."""
    base, head = content.base.get(name), content.head.get(name)
    titled = [
        (f"base, {content.verdict.base['side']}" if content.verdict.base else "base", base),
        (f"head, {content.verdict.head['side']}" if content.verdict.head else "head", head),
    ]
    if base is not None and head is not None and base.trace == head.trace:
        return [("both sides", head.trace)]
    return [(title, recording.trace) for title, recording in titled if recording is not None]


def _drawn_names(content: PageContent) -> list[str]:
    known = {**content.base, **content.head}
    by_cause = [name for cause in content.verdict.causes for name in cause.scenarios[:1]]
    changed = [*by_cause, *content.verdict.scenarios.names_changed]
    names = [name for name in dict.fromkeys(changed) if name in known]
    if not names and known:
        names = [max(known, key=lambda name: len(known[name].trace.events))]
    return names[:_MAX_DRAWN]


def _left_out_text(content: PageContent, names: Sequence[str]) -> str:
    number = len(set(content.verdict.scenarios.names_changed) - set(names))
    return f"{phrases.pluralise(number, 'more scenario')} with differences: not drawn." * bool(
        number
    )


def _drawn_scenario(name: str, content: PageContent) -> _DrawnScenario:
    return _DrawnScenario(
        name=name,
        sides=tuple(
            _DrawnSide(title=title, pools=memory_map(trace))
            for title, trace in _traces(name, content)
        ),
    )


def _timelines(name: str, content: PageContent) -> list[dict[str, object]]:
    return [{"title": title, "line": timeline(trace)} for title, trace in _traces(name, content)]


def _host_text(row: RowPair) -> str:
    return f"host {row.host_bytes} B" if row.host_bytes else "not mirrored"


def _coverage_counts(cells: Sequence[CoverageCell]) -> str:
    counts = [(state, sum(cell.state is state for cell in cells)) for state in CoverageState]
    shown = ", ".join(f"{number} {state}" for state, number in reversed(counts) if number)
    return f"{phrases.pluralise(len(cells), 'parameter')}: {shown}"
