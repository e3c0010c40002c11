"""Releases side by side, with made-up sides."""

import pytest

from tools.releases.survey import tabulate_coverage
from tools.report.markdown import markdown_table
from tools.sides.results import SideResults
from traces.schema.model import SCHEMA, Call, Outcome, Recording, ScenarioRecord, Trace


def played(*builders, has):
    calls = tuple(
        Call(
            call=f"{name}#1",
            parent="",
            caller="",
            step="",
            role="builder",
            part="",
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
    return SideResults(recordings=recordings, builders=has)


def test_builder_is_played_when_it_was_really_called_by_whatever_scenario():
    sides = {
        "old": played("build_a_stack", "_Strategy.build", has=("build_a_stack", "_Strategy")),
        "new": played("build_a_stack", has=("build_a_stack", "_Strategy", "build_b_stack")),
    }

    assert tabulate_coverage(sides) == {
        "_Strategy": {"old": "played", "new": "not played"},
        "build_a_stack": {"old": "played", "new": "played"},
        "build_b_stack": {"old": "-", "new": "not played"},
    }


def test_markdown_table_keeps_bars_and_lines_inside_their_cells():
    assert markdown_table(("a", "b"), [("1 | 2", "x\n y")]) == (
        "| a | b |\n| --- | --- |\n| 1 \\| 2 | x y |\n"
    )


@pytest.fixture
def unplayed(monkeypatch):
    """Sides that are played."""
    asked = []

    def run_side(session, side, **_):
        asked.append(side.text)
        return played(has=())

    monkeypatch.setattr("tools.commands.survey.run_surveyed_side", run_side)
    return asked


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        (["pypi:0.5.12"], "survey: must have steps; expected at least two, each once, got pypi:0."),
        (["pypi:0.5.12"] * 2, "survey: must have steps; expected at least two, each once, got py"),
        (["pypi:0.5.12", "nonsense"], "side: must be known; expected pypi:VERSION, dir:PATH, git"),
        (["pypi:0.5.12", "dir:"], "side: must name a directory; expected dir:PATH, got 'dir:'"),
        (["pypi:0.5.12", "git:/tmp"], "side: must name a revision; expected git:PATH@REV, got 'g"),
    ],
)
def test_what_gives_no_step_is_refused_before_anything_is_played(
    goldentrace, unplayed, capsys, sides, said
):
    assert goldentrace("survey", *sides) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0].startswith(f"goldentrace: {said}")
    assert len(captured.err.splitlines()) == 1
    assert unplayed == []


def test_two_sides_are_a_step(goldentrace, unplayed):
    """Control: the same request with sides that differ."""
    assert goldentrace("survey", "pypi:0.5.12", "pypi:0.5.13") == 0
    assert unplayed == ["pypi:0.5.12", "pypi:0.5.13"]
