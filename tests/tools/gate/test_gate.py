"""The gate on a small checkout: what passes, what fails, what cannot be judged."""

import json

import msgspec
import pytest

from traces.schema.canonical import render


def verdict_of(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def kinds(verdict: dict) -> list[str]:
    return [cause["kind"] for cause in verdict["causes"]]


def test_unchanged_checkout_passes(goldentrace, capsys):
    assert goldentrace("gate", "--format", "json") == 0
    verdict = verdict_of(capsys)
    assert verdict["verdict"] == "pass"
    assert verdict["schema"] == "goldentrace.verdict/1"
    assert verdict["target"] == "native"
    assert verdict["base"] == {"side": "golden"}
    assert verdict["head"] == {"side": "worktree"}
    assert verdict["scenarios"] == {
        "played": 2,
        "unchanged": 2,
        "changed": 0,
        "names_changed": [],
        "names": ["a", "b"],
    }
    assert verdict["causes"] == []
    assert verdict["problems"] == []


def test_narrowed_row_fails_with_its_argument_first(goldentrace, narrowed, capsys):
    assert goldentrace("gate", "--format", "json") == 1
    verdict = verdict_of(capsys)
    assert verdict["verdict"] == "fail"
    assert verdict["scenarios"] == {
        "played": 2,
        "unchanged": 1,
        "changed": 1,
        "names_changed": ["a"],
        "names": ["a", "b"],
    }
    first = verdict["causes"][0]
    assert first["kind"] == "argument_changed"
    assert first["parameter"] == "override_kv_cache_dim"
    assert (first["before"], first["after"]) == (656, 576)
    assert first["location"] == {"file": "assembler/stacks.py", "line": 123}
    assert "shape_changed" in [part["kind"] for part in first["consequences"]]


def defaulted(trace):
    """The same trace, but the builder's argument was filled in by its default."""
    [builder, pool] = trace.calls
    argument = msgspec.structs.replace(builder.arguments[0], given=False)
    builder = msgspec.structs.replace(builder, arguments=(argument,))
    return msgspec.structs.replace(trace, calls=(builder, pool))


def test_interface_difference_passes_unless_strict(goldentrace, checkout, capsys):
    checkout.traces["a"] = defaulted(checkout.traces["a"])
    checkout.write_baseline("parameter_blind_spot build_kv_only_stack.page_size")
    assert goldentrace("gate", "--format", "json") == 0
    verdict = verdict_of(capsys)
    assert {cause["level"] for cause in verdict["causes"]} == {"interface"}
    assert verdict["scenarios"]["changed"] == 1
    assert goldentrace("gate", "--strict") == 1


def test_changed_golden_that_regenerate_would_not_write_fails_at_interface_level(
    goldentrace, checkout, capsys
):
    written = checkout.traces["a"]
    checkout.write_golden(defaulted(written))
    checkout.changelog.write_text("## Unreleased\n### Goldens\n- a: edited by hand\n")
    assert goldentrace("gate", "--format", "json") == 1
    verdict = verdict_of(capsys)
    assert {cause["level"] for cause in verdict["causes"]} == {"interface"}
    [problem] = verdict["problems"]
    assert problem == (
        "a: a changed golden must be what `goldentrace regenerate` writes; "
        "expected the trace of the work tree, got other bytes"
    )
    checkout.write_golden(written)
    assert goldentrace("gate") == 0


def test_missing_golden_fails(goldentrace, checkout, make_trace, capsys):
    checkout.traces["new"] = make_trace("new")
    assert goldentrace("gate", "--format", "json") == 1
    verdict = verdict_of(capsys)
    assert kinds(verdict) == ["scenario_added"]
    assert verdict["causes"][0]["scenarios"] == ["new"]


def test_orphan_golden_fails(goldentrace, checkout, make_trace, capsys):
    checkout.write_golden(make_trace("gone", width=1))
    checkout.commit()
    assert goldentrace("gate", "--format", "json") == 1
    verdict = verdict_of(capsys)
    assert kinds(verdict) == ["scenario_removed"]
    assert verdict["causes"][0]["scenarios"] == ["gone"]


def test_provenance_is_no_orphan(goldentrace, checkout):
    (checkout.golden / "PROVENANCE.json").write_text("{}\n")
    assert goldentrace("gate") == 0


def test_orphan_is_not_asked_about_when_scenarios_are_named(goldentrace, checkout, make_trace):
    checkout.write_golden(make_trace("gone"))
    checkout.commit()
    assert goldentrace("gate", "a") == 0


def test_builder_that_nothing_plays_fails(goldentrace, checkout, capsys):
    checkout.builders = ("build_kv_only_stack", "build_new_stack")
    assert goldentrace("gate", "--format", "json") == 1
    verdict = verdict_of(capsys)
    assert kinds(verdict) == ["uncovered_builder"]
    assert verdict["causes"][0]["builder"] == "build_new_stack"


@pytest.mark.parametrize(
    "bend",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: json.dumps(json.loads(text)),
        lambda text: json.dumps(json.loads(text), indent=2),
        lambda text: text + "\n",
    ],
    ids=["CRLF", "one line", "indented", "empty line at the end"],
)
def test_golden_in_other_bytes_is_a_change_of_format(goldentrace, checkout, capsys, bend):
    path = checkout.golden / "a.json"
    path.write_bytes(bend(path.read_text()).encode())
    checkout.changelog.write_text("## Unreleased\n### Goldens\n- a: bent\n")
    assert goldentrace("gate", "--format", "json") == 1
    verdict = verdict_of(capsys)
    assert kinds(verdict) == ["format_changed"]
    assert verdict["causes"][0]["level"] == "format"
    assert verdict["causes"][0]["location"]["file"] == "traces/golden/native/a.json"


def test_scenario_that_is_not_deterministic_is_an_error_not_a_difference(
    goldentrace, checkout, make_trace, capsys
):
    checkout.traces["a"] = (make_trace("a"), make_trace("a", width=576))
    assert goldentrace("gate", "--format", "json") == 2
    verdict = verdict_of(capsys)
    assert verdict["verdict"] == "error"
    [problem] = verdict["problems"]
    assert problem.startswith("a: must be deterministic over PYTHONHASHSEED=0 and 4242; expected")
    assert verdict["causes"] == []
    assert verdict["scenarios"]["played"] == 1


def test_error_outweighs_a_difference_elsewhere(goldentrace, checkout, make_trace, capsys):
    checkout.traces["a"] = "hangs"
    checkout.traces["b"] = make_trace("b", width=576)
    assert goldentrace("gate", "--format", "json") == 2
    assert verdict_of(capsys)["causes"][0]["scenarios"] == ["b"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must be one complete JSON document"),
        (b'{"schema": "other/1"}', "schema must be known"),
        (b'{"schema": "goldentrace.trace/1"}', "as `goldentrace regenerate --reason TEXT` or"),
        (b"\xff\xfe", "must be readable"),
        (b"<<<<<<< ours\n{}\n=======\n{}\n>>>>>>> theirs\n", "must not hold a merge conflict"),
    ],
    ids=["empty", "foreign", "older", "no text", "conflict"],
)
def test_unreadable_golden_is_an_error(goldentrace, checkout, capsys, content, said):
    (checkout.golden / "a.json").write_bytes(content)
    before = checkout.files()
    assert goldentrace("gate", "--format", "json") == 2
    captured = capsys.readouterr()
    verdict = json.loads(captured.out)
    [problem] = [line for line in verdict["problems"] if said in line]
    assert verdict["scenarios"]["played"] == verdict["scenarios"]["unchanged"] == 1
    assert f"goldentrace: {problem}" in captured.err.splitlines()
    assert "a.json" in problem
    assert goldentrace("gate") == 2
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count(problem) == 1
    assert checkout.files() == before


def test_truncated_golden_is_an_error(goldentrace, checkout):
    path = checkout.golden / "a.json"
    path.write_bytes(path.read_bytes()[:-200])
    assert goldentrace("gate") == 2


def test_golden_of_another_scenario_is_an_error(goldentrace, checkout, capsys):
    (checkout.golden / "a.json").write_bytes((checkout.golden / "b.json").read_bytes())
    assert goldentrace("gate") == 2
    assert "must hold the scenario it is named after; expected a, got b" in capsys.readouterr().out


def test_no_scenario_is_an_error(goldentrace, checkout, capsys):
    checkout.traces.clear()
    for path in checkout.golden.iterdir():
        path.unlink()
    assert goldentrace("gate", "--format", "json") == 2
    assert "expected at least one, got 0" in verdict_of(capsys)["problems"][0]


def test_failing_round_trip_without_golden_difference_is_a_fault(
    goldentrace, checkout, broken_trace, capsys
):
    """Base and head corrupt alike: no difference between them, and still wrong."""
    checkout.traces["a"] = checkout.base_traces["a"] = broken_trace("a")
    assert goldentrace("gate", "--base", "HEAD", "--format", "json") == 1
    verdict = verdict_of(capsys)
    assert verdict["causes"] == []
    assert verdict["problems"] == [
        "a: a round trip must restore every row; expected none wrong, got 65 of KV in step 'load'"
    ]


def test_passing_difference_does_not_hide_a_failing_round_trip(
    goldentrace, checkout, broken_trace, capsys
):
    checkout.base_traces["a"] = broken_trace("a")
    checkout.traces["a"] = defaulted(broken_trace("a"))
    checkout.write_baseline("parameter_blind_spot build_kv_only_stack.page_size")
    assert goldentrace("gate", "--base", "HEAD", "--format", "json") == 1
    verdict = verdict_of(capsys)
    assert {cause["level"] for cause in verdict["causes"]} == {"interface"}
    assert "a round trip must restore every row" in verdict["problems"][0]


def test_unreadable_golden_does_not_hide_a_difference_from_a_revision(
    goldentrace, checkout, narrowed, capsys
):
    (checkout.golden / "a.json").write_bytes(b"")
    assert goldentrace("gate", "--base", "HEAD", "--format", "json") == 2
    assert kinds(verdict_of(capsys))[0] == "argument_changed"


def test_failure_that_the_golden_records_is_accepted(goldentrace, checkout, failed_trace):
    checkout.traces["a"] = failed_trace("a")
    checkout.write_golden(failed_trace("a"))
    checkout.changelog.write_text("## Unreleased\n### Goldens\n- a: must fail\n")
    assert goldentrace("gate") == 0


def test_new_failure_is_a_difference(goldentrace, checkout, failed_trace, capsys):
    checkout.traces["a"] = failed_trace("a")
    assert goldentrace("gate", "--format", "json") == 1
    assert kinds(verdict_of(capsys)) == ["outcome_changed"]


def test_changed_golden_must_be_declared(goldentrace, checkout, narrowed, capsys):
    checkout.write_golden(narrowed)
    assert goldentrace("gate", "--format", "json") == 1
    [problem] = verdict_of(capsys)["problems"]
    assert problem == (
        "a: a changed golden must be declared in CHANGELOG.md; "
        "expected `- NAME: reason` under Unreleased > Goldens, got none"
    )
    checkout.changelog.write_text("## Unreleased\n### Goldens\n- `a`: narrower on purpose\n")
    assert goldentrace("gate") == 0


def test_revision_as_base_shows_what_the_goldens_hide(goldentrace, checkout, narrowed, capsys):
    """Golden rewritten together with the fault: the golden agrees, the base does not."""
    checkout.write_golden(narrowed)
    checkout.changelog.write_text("## Unreleased\n### Goldens\n- a: hidden\n")
    assert goldentrace("gate") == 0
    capsys.readouterr()
    assert goldentrace("gate", "--base", "HEAD", "--format", "json") == 1
    verdict = verdict_of(capsys)
    assert verdict["base"] == {"side": "HEAD", "commit": checkout.git("rev-parse", "HEAD").strip()}
    assert kinds(verdict)[0] == "argument_changed"


def test_revision_as_base_still_asks_about_the_goldens(goldentrace, checkout, make_trace, capsys):
    checkout.traces["new"] = checkout.base_traces["new"] = make_trace("new")
    assert goldentrace("gate", "--base", "HEAD", "--format", "json") == 1
    assert kinds(verdict_of(capsys)) == ["scenario_added"]


def test_without_repository_the_declaration_is_a_note(goldentrace, checkout, capsys):
    for path in sorted((checkout.root / ".git").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (checkout.root / ".git").rmdir()
    assert goldentrace("gate") == 0
    assert "goldentrace: note: not a git repository" in capsys.readouterr().err


def test_golden_as_head_says_that_builders_were_not_searched(goldentrace, capsys):
    assert goldentrace("gate", "--base", "HEAD", "--head", "golden") == 0
    assert "goldentrace: note: the head is golden" in capsys.readouterr().err


def test_gate_changes_no_file(goldentrace, checkout, narrowed):
    before = checkout.files()
    goldentrace("gate")
    assert checkout.files() == before


def test_check_asks_neither_about_orphans_nor_declaration(goldentrace, checkout, make_trace):
    checkout.write_golden(make_trace("gone"))
    checkout.builders = ("build_new_stack",)
    assert goldentrace("gate") == 1
    assert goldentrace("check") == 0


def test_check_compares_the_scenarios_named(goldentrace, narrowed):
    assert goldentrace("check", "b") == 0
    assert goldentrace("check", "a") == 1


def test_goldens_are_what_render_writes(checkout):
    assert (checkout.golden / "a.json").read_text() == render(checkout.traces["a"])


def test_second_look_runs_in_the_sides_that_are_open(goldentrace, checkout, narrowed, capsys):
    """A revision is checked out once, and no workers are started again."""
    assert goldentrace("gate", "--base", "HEAD") == 1
    assert "first causes are as the traces show them: a: must be real" in capsys.readouterr().err
    assert len(checkout.opened) == 2
    assert checkout.opened[0] == checkout.root
