"""Releases side by side, with made-up sides."""

from tools.formats.tables import markdown_table
from tools.survey import Played, coverage_table
from traces.model import SCHEMA, Call, Outcome, Recording, ScenarioRecord, Trace


def played(*builders, has):
    calls = tuple(
        Call(
            call=f"{name}#1",
            parent="",
            step="",
            role="builder",
            callee=name,
            arguments=(),
            returns=None,
            raises=None,
        )
        for name in builders
    )
    trace = Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(name="s", config={}),
        calls=calls,
        tensors=(),
        events=(),
        digests=(),
        outcome=Outcome(ok=True, failed_step="", failure=None),
    )
    recordings = {"s": Recording(trace=trace, sites=None)}
    return Played(recordings=recordings, unplayable={}, builders=has, seconds=0.0)


def test_builder_is_played_when_it_was_really_called_by_whatever_scenario():
    sides = {
        "old": played("build_a_stack", "_Strategy.build", has=("build_a_stack", "_Strategy")),
        "new": played("build_a_stack", has=("build_a_stack", "_Strategy", "build_b_stack")),
    }

    assert coverage_table(sides) == {
        "_Strategy": {"old": "played", "new": "not played"},
        "build_a_stack": {"old": "played", "new": "played"},
        "build_b_stack": {"old": "-", "new": "not played"},
    }


def test_markdown_table_keeps_bars_and_lines_inside_their_cells():
    assert markdown_table(("a", "b"), [("1 | 2", "x\n y")]) == (
        "| a | b |\n| --- | --- |\n| 1 \\| 2 | x y |\n"
    )
