"""Statistics, explained survivors and the report."""

import json

import pytest

from tools.errors import ToolError
from tools.mutation.campaign.tasks import MutantResult
from tools.mutation.report.render import MutationReportFormat, format_percent, render_statistics
from tools.mutation.report.statistics import compute_statistics
from tools.mutation.report.survivors import SURVIVORS_FILE, read_explained_survivors

SURVIVORS_TEXT = """
[survivors.native."*"]
"a.py unused *" = "never called"

[survivors.native.drop_keyword]
"a.py killed" = "stale"
"""


SAME_PROGRAM = """
[same_program.native.drop_keyword]
"a.py lost" = "both are one number"
"a.py killed" = "refuted"
"a.py order" = "of another operator"
"""


def result(verdict, key="a.py k", operator="drop_keyword", **options):
    return MutantResult(id=key, operator=operator, key=key, label=key, verdict=verdict, **options)


RESULTS = [
    result(
        "killed",
        "a.py killed",
        has_parameter=True,
        right_parameter=True,
        right_line=True,
        right_function=True,
        fields=("calls.arguments.value", "calls.arguments.given"),
    ),
    result(
        "killed", "a.py order", operator="drop_edge", fields=("events.wait.number", "calls.step")
    ),
    result("loud"),
    result("equivalent", proof="state"),
    result("survived", "a.py lost"),
    result("unreached", "a.py unused thing"),
]


def statistics_with(rows, folder, release=None):
    (folder / SURVIVORS_FILE).parent.mkdir(parents=True)
    (folder / SURVIVORS_FILE).write_text(rows)
    return compute_statistics(
        RESULTS,
        target="native",
        side="worktree",
        explained=read_explained_survivors(folder, release=release),
        notes=("a note",),
    )


@pytest.fixture
def found(tmp_path):
    return statistics_with(SURVIVORS_TEXT, tmp_path)


def test_score_counts_silent_mutants_only(found):
    total = found.total
    assert (total.mutants, total.silent, total.killed, total.loud) == (6, 3, 2, 1)
    assert [score.operator for score in found.scores] == ["drop_keyword", "drop_edge"]


def test_matrix_and_field_utility(found):
    assert found.total.by_section["calls"] == 2
    assert found.total.alone == {
        "calls": 1,
        "tensors": 0,
        "events": 0,
        "digests": 0,
        "outcome": 0,
    }
    assert found.candidates == ("calls.step", "events.wait.number")


def test_first_cause(found):
    first = found.first_cause
    assert (first.kills, first.line, first.with_parameter, first.parameter) == (2, 1, 1, 1)
    assert first.right == 1
    assert found.wrong == ("a.py order: ",)


def test_survivors_are_explained_or_not(found):
    assert [survivor.key for survivor in found.unexplained] == ["a.py lost"]
    assert found.stale == ("a.py killed",)


def test_a_row_of_one_release_explains_nothing_of_another(tmp_path):
    row = (
        '[same_program.native.drop_keyword]\n"a.py lost" = {reason = "one number", release = "2"}\n'
    )
    found, other, none = (
        statistics_with(row, tmp_path / str(number), release=release)
        for number, release in enumerate(("2", "1", None))
    )
    assert [one.reason for one in found.survivors] == ["one number", ""]
    assert (found.total.same_program, other.total.same_program, none.total.same_program) == (
        1,
        0,
        0,
    )
    assert [one.reason for one in other.survivors] == ["", ""]


def test_survivors_that_no_input_tells_are_counted_apart(tmp_path):
    found = statistics_with(SURVIVORS_TEXT + SAME_PROGRAM, tmp_path)
    total = found.total
    assert (total.silent, total.survived, total.same_program, total.faults) == (3, 1, 1, 2)
    assert [(one.key, one.is_same_program) for one in found.survivors] == [
        ("a.py lost", True),
        ("a.py unused thing", False),
    ]
    assert found.unexplained == ()
    assert (
        "2 of them killed (66.6 %, 100.0 % without 1 survivor that no input tells from the source)"
        in render_statistics(found, form=MutationReportFormat.TEXT)
    )


def test_a_kill_refutes_the_row_that_calls_it_the_same_program(tmp_path):
    assert statistics_with(SAME_PROGRAM, tmp_path).stale == ("a.py killed",)


def test_forms(found):
    text = render_statistics(found, form=MutationReportFormat.TEXT)
    assert "6 distinct mutants, 3 silent, 2 of them killed (66.6 %)" in text
    assert "survivors: NOT EXPLAINED (1):\n- drop_keyword a.py lost (0 scenarios reach it)" in text
    assert "| drop_edge | 1 | 1 | 100.0 % | 1 | 0 | 0 | 0 | 0 | 0 |" in render_statistics(
        found, form=MutationReportFormat.MARKDOWN
    )
    assert (
        json.loads(render_statistics(found, form=MutationReportFormat.JSON))["schema"]
        == "goldentrace.mutation/1"
    )


def test_share_is_rounded_down():
    assert (format_percent(999, 1000), format_percent(9999, 10000), format_percent(0, 0)) == (
        "99.9 %",
        "99.9 %",
        "-",
    )


def test_malformed_file_of_survivors_is_refused(tmp_path):
    assert read_explained_survivors(tmp_path, release=None).survivors == {}
    (tmp_path / SURVIVORS_FILE).parent.mkdir(parents=True)
    (tmp_path / SURVIVORS_FILE).write_text('[survivors.native]\nkey = "x"\n')
    with pytest.raises(ToolError, match="must explain survivors"):
        read_explained_survivors(tmp_path, release=None)
