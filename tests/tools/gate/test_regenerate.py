"""Regeneration: on purpose, with a reason, all or nothing."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from tools.gate import regenerate
from traces.schema.canonical import render


def test_only_goldens_that_differ_are_rewritten(goldentrace, checkout, narrowed, capsys):
    before = (checkout.golden / "b.json").stat().st_mtime_ns
    assert goldentrace("regenerate", "--reason", "narrower rows") == 0
    assert (checkout.golden / "a.json").read_text() == render(narrowed)
    assert (checkout.golden / "b.json").stat().st_mtime_ns == before
    out = capsys.readouterr().out
    assert "argument_changed  override_kv_cache_dim  656 -> 576" in out
    assert "fix     a\n1 fixed\n" in out


def test_changelog_gets_names_and_reason_and_the_gate_passes(goldentrace, checkout, narrowed):
    assert goldentrace("regenerate", "--reason", "narrower\nrows") == 0
    assert checkout.changelog.read_text() == (
        "# Changelog\n\n## [Unreleased]\n\n### Goldens\n\n- `a`: narrower rows\n"
    )
    assert goldentrace("gate") == 0


def test_provenance_says_what_played_at_which_commit(goldentrace, checkout, narrowed):
    assert goldentrace("regenerate", "--reason", "why") == 0
    provenance = json.loads((checkout.golden / "PROVENANCE.json").read_text())
    assert provenance["schema"] == "goldentrace.provenance/1"
    assert list(provenance["goldens"]) == ["a"]
    of = provenance["goldens"]["a"]
    assert (of["device"], of["torch"]) == ("cpu", "2.0")
    assert of["commit"] == checkout.git("rev-parse", "HEAD").strip()
    assert of["date"].endswith("+00:00")


def test_provenance_of_other_goldens_is_kept(goldentrace, checkout, make_trace):
    checkout.traces["a"] = make_trace("a", width=1)
    goldentrace("regenerate", "--reason", "one")
    checkout.traces["b"] = make_trace("b", width=2)
    goldentrace("regenerate", "--reason", "two")
    provenance = json.loads((checkout.golden / "PROVENANCE.json").read_text())
    assert list(provenance["goldens"]) == ["a", "b"]


def test_unchanged_goldens_leave_everything_alone(goldentrace, checkout, capsys):
    before = checkout.files()
    assert goldentrace("regenerate", "--reason", "why") == 0
    assert checkout.files() == before
    assert capsys.readouterr().out.endswith("every golden is right\n")


def test_dry_run_shows_and_writes_nothing(goldentrace, checkout, narrowed, capsys):
    before = checkout.files()
    assert goldentrace("regenerate", "--reason", "why", "--dry-run") == 0
    assert checkout.files() == before
    out = capsys.readouterr().out
    assert "argument_changed" in out
    assert out.endswith("dry run, nothing written: 1 fixed\n")


def test_new_scenario_is_created_and_lost_one_trimmed(goldentrace, checkout, make_trace, capsys):
    checkout.traces["new"] = make_trace("new")
    del checkout.traces["b"]
    assert goldentrace("regenerate", "--reason", "why") == 0
    assert not (checkout.golden / "b.json").exists()
    assert (checkout.golden / "new.json").read_text() == render(make_trace("new"))
    assert capsys.readouterr().out.endswith("create  new\ntrim    b\n1 created, 1 trimmed\n")
    assert "- `new`, `b`: why\n" in checkout.changelog.read_text()
    assert goldentrace("gate") == 0


def test_named_scenarios_trim_nothing(goldentrace, checkout, narrowed):
    del checkout.traces["b"]
    assert goldentrace("regenerate", "a", "--reason", "why") == 0
    # "a" is every scenario there is, so naming it must not be taken for naming none.
    assert (checkout.golden / "b.json").exists()


def test_other_scenarios_are_left_alone_when_one_is_named(goldentrace, checkout, make_trace):
    checkout.traces["a"] = make_trace("a", width=1)
    checkout.traces["b"] = make_trace("b", width=1)
    before = (checkout.golden / "b.json").read_bytes()
    assert goldentrace("regenerate", "a", "--reason", "why") == 0
    assert (checkout.golden / "b.json").read_bytes() == before


def test_same_trace_in_other_bytes_is_an_update(goldentrace, checkout, capsys):
    path = checkout.golden / "a.json"
    text = path.read_text()
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert goldentrace("regenerate", "--reason", "line ends") == 0
    assert path.read_bytes() == text.encode()
    assert capsys.readouterr().out.endswith("update  a\n1 updated\n")


def test_golden_with_a_merge_conflict_is_replaced(goldentrace, checkout, capsys):
    path = checkout.golden / "a.json"
    path.write_text("<<<<<<< ours\n{}\n=======\n{}\n>>>>>>> theirs\n")
    assert goldentrace("regenerate", "--reason", "merged") == 0
    assert path.read_text() == render(checkout.traces["a"])
    assert "merge conflict" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1", "true"])
def test_in_ci_it_refuses(goldentrace, checkout, narrowed, monkeypatch, capsys, value):
    monkeypatch.setenv("CI", value)
    before = checkout.files()
    assert goldentrace("regenerate", "--reason", "why") == 2
    assert checkout.files() == before
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("goldentrace: golden: must not be written in CI; expected CI not set")


@pytest.mark.parametrize("arguments", [(), ("--reason", " ")])
def test_without_a_reason_it_refuses(goldentrace, checkout, narrowed, capsys, arguments):
    before = checkout.files()
    assert goldentrace("regenerate", *arguments) == 2
    assert checkout.files() == before
    assert capsys.readouterr().err == (
        "goldentrace: a written golden: must have a reason; "
        "expected --reason TEXT, for the CHANGELOG, got none\n"
    )


def test_scenario_that_is_not_deterministic_is_refused(
    goldentrace, checkout, narrowed, make_trace, capsys
):
    checkout.traces["b"] = (make_trace("b"), make_trace("b", width=1))
    before = checkout.files()
    assert goldentrace("regenerate", "--reason", "why") == 2
    assert checkout.files() == before
    assert "b: must be deterministic" in capsys.readouterr().err


def test_failing_oracle_is_refused(goldentrace, checkout, broken_trace, capsys):
    checkout.traces["a"] = broken_trace("a")
    before = checkout.files()
    assert goldentrace("regenerate", "--reason", "why") == 2
    assert checkout.files() == before
    assert "every oracle must hold" in capsys.readouterr().err


def test_failure_that_the_golden_records_already_may_be_written_again(
    goldentrace, checkout, failed_trace
):
    path = checkout.golden / "a.json"
    path.write_bytes(render(failed_trace("a")).replace("\n", "\r\n").encode())
    checkout.traces["a"] = failed_trace("a")
    assert goldentrace("regenerate", "--reason", "why") == 0
    assert path.read_text() == render(failed_trace("a"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError(13, "Permission denied")])
def test_interrupted_or_failing_write_leaves_every_file(
    goldentrace, checkout, make_trace, monkeypatch, error
):
    checkout.traces = {name: make_trace(name, width=1) for name in ("a", "b")}
    before = checkout.files()
    replace = Path.replace
    replaced = []

    def fail_second(self, target):
        replaced.append(target)
        if len(replaced) == 2:
            raise error
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_second)
    assert goldentrace("regenerate", "--reason", "why") in (2, 130)
    assert checkout.files() == before


def test_second_regeneration_at_the_same_time_is_refused(
    goldentrace, checkout, narrowed, monkeypatch, capsys
):
    monkeypatch.setattr(regenerate, "LOCK_LIMIT_SECONDS", 0.01)
    (checkout.root / ".goldentrace").mkdir()
    before = checkout.files()
    with FileLock(checkout.root / ".goldentrace" / "regenerate.lock"):
        assert goldentrace("regenerate", "--reason", "why") == 2
    assert checkout.files() == before
    assert "must run one at a time" in capsys.readouterr().err


def test_changelog_that_is_no_text_is_refused(goldentrace, checkout, narrowed, capsys):
    checkout.changelog.write_bytes(b"\xff")
    before = checkout.files()
    assert goldentrace("regenerate", "--reason", "why") == 2
    assert checkout.files() == before
    assert "CHANGELOG.md: must be readable" in capsys.readouterr().err
