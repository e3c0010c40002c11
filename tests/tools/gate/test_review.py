"""Review: golden changes are accepted or rejected cause by cause."""

import io
import json

import pytest

from traces.schema.canonical import render


@pytest.fixture
def two_causes(checkout, narrowed, make_trace):
    """Scenario ``a`` has narrower rows, and scenario ``new`` has no golden yet."""
    checkout.traces["new"] = make_trace("new")


def state(checkout) -> dict[str, dict[str, str]]:
    path = checkout.root / ".goldentrace" / "review.json"
    return json.loads(path.read_text())["decisions"] if path.exists() else {}


def answer(monkeypatch, *lines: str) -> None:
    """Let stdin be a terminal on which somebody types these lines."""
    typed = io.StringIO("".join(f"{line}\n" for line in lines))
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", typed)


def test_causes_are_listed_without_a_terminal_and_nothing_is_written(
    goldentrace, checkout, two_causes, capsys
):
    before = checkout.files()
    assert goldentrace("review") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert " pending   argument_changed: override_kv_cache_dim 656 -> 576" in lines[1]
    assert " pending   scenario_added: new" in lines[0]
    assert checkout.files() == before


def test_nothing_is_pending_when_the_goldens_are_right(goldentrace, checkout, capsys):
    assert goldentrace("review") == 0
    assert capsys.readouterr().out == "nothing is pending\n"


def test_accepted_cause_is_written_and_declared_and_the_other_stays_pending(
    goldentrace, checkout, two_causes, narrowed, capsys
):
    code = goldentrace("review", "--accept", "*:override_*", "--reason", "narrower rows")
    assert code == 1
    assert (checkout.golden / "a.json").read_text() == render(narrowed)
    assert not (checkout.golden / "new.json").exists()
    assert "- `a`: narrower rows\n" in checkout.changelog.read_text()
    [line] = capsys.readouterr().out.splitlines()
    assert " pending   scenario_added: new" in line
    assert state(checkout) == {}


def test_all_accepted_leaves_nothing_pending_and_the_gate_passes(goldentrace, checkout, two_causes):
    assert goldentrace("review", "--accept", "*", "--reason", "why") == 0
    assert goldentrace("gate") == 0


def test_rejected_cause_is_remembered_and_never_written(goldentrace, checkout, narrowed, capsys):
    before = (checkout.golden / "a.json").read_bytes()
    assert goldentrace("review", "--reject", "argument_changed") == 1
    assert (checkout.golden / "a.json").read_bytes() == before
    capsys.readouterr()
    assert goldentrace("review") == 1
    assert " rejected  argument_changed" in capsys.readouterr().out


def test_decision_is_void_when_the_cause_has_other_values(
    goldentrace, checkout, narrowed, make_trace, capsys
):
    goldentrace("review", "--reject", "argument_changed")
    checkout.traces["a"] = make_trace("a", width=640)
    capsys.readouterr()
    assert goldentrace("review") == 1
    assert " pending   argument_changed: override_kv_cache_dim 656 -> 640" in (
        capsys.readouterr().out
    )


def test_pattern_that_names_no_cause_is_refused_with_the_ids(
    goldentrace, checkout, narrowed, capsys
):
    assert goldentrace("review", "--accept", "digest_*", "--reason", "why") == 2
    assert "--accept: must name a cause; expected " in capsys.readouterr().err


def test_accepting_needs_a_reason(goldentrace, checkout, narrowed, capsys):
    assert goldentrace("review", "--accept", "*") == 2
    assert capsys.readouterr().err == (
        "goldentrace: a written golden: must have a reason; "
        "expected --reason TEXT, for the CHANGELOG, got none\n"
    )


def test_review_is_refused_in_ci(goldentrace, checkout, narrowed, monkeypatch, capsys):
    monkeypatch.setenv("CI", "true")
    assert goldentrace("review", "--accept", "*", "--reason", "why") == 2
    assert checkout.changelog.read_text() == "# Changelog\n\n## [Unreleased]\n"


def test_answers_on_a_terminal_decide(goldentrace, checkout, two_causes, monkeypatch, capsys):
    answer(monkeypatch, "s", "n", "a", "narrower rows")
    assert goldentrace("review") == 1
    out = capsys.readouterr().out
    assert "1 of 2, id " in out
    assert "[q]uit? a\n" in out
    assert "- `a`: narrower rows\n" in checkout.changelog.read_text()


def test_source_shows_the_line_of_the_cause(goldentrace, checkout, narrowed, monkeypatch, capsys):
    source = checkout.root / "assembler" / "stacks.py"
    source.write_text("".join(f"line {number}\n" for number in range(1, 200)))
    answer(monkeypatch, "o", "q")
    assert goldentrace("review") == 1
    assert ">   123  line 123\n" in capsys.readouterr().out


def test_decisions_survive_an_interruption(goldentrace, checkout, two_causes, monkeypatch):
    answer(monkeypatch, "r")
    assert goldentrace("review") == 130
    assert [one["choice"] for one in state(checkout).values()] == ["reject"]


def test_golden_with_two_causes_waits_for_both(goldentrace, checkout, make_trace, capsys):
    trace = make_trace("a", width=576)
    checkout.traces["a"] = trace
    path = checkout.golden / "a.json"
    path.write_text(path.read_text().replace("\n", "\n ", 1))
    assert goldentrace("review", "--accept", "argument_changed", "--reason", "narrower") == 1
    assert path.read_text() != render(trace)
    assert " accepted  argument_changed" in capsys.readouterr().out
    assert goldentrace("review", "--accept", "format_changed", "--reason", "by hand") == 0
    assert path.read_text() == render(trace)
    assert "- `a`: narrower; by hand\n" in checkout.changelog.read_text()


def test_unreadable_state_is_refused(goldentrace, checkout, narrowed, capsys):
    path = checkout.root / ".goldentrace" / "review.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text("{")
    assert goldentrace("review") == 2
    assert "review.json: must be readable; expected schema goldentrace.review/1" in (
        capsys.readouterr().err
    )
