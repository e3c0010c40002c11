"""Traces as files: recorded, and compared without playing."""

import json

import pytest

from traces.schema.canonical import read_recording, render


def test_record_writes_trace_and_sites(goldentrace, checkout, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert goldentrace("record", "a", "--out", str(out)) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a.sites.json"]
    recording = read_recording(out / "a.json")
    assert recording.trace == checkout.traces["a"]
    assert recording.sites.calls["MLATokenToKVPoolHost#1"].line == 123
    assert capsys.readouterr().out == f"{out}/a.json\n"


def test_record_without_names_writes_all(goldentrace, tmp_path):
    assert goldentrace("record", "--out", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "b.json").exists()


def test_problem_while_recording_writes_nothing(goldentrace, checkout, tmp_path, capsys):
    checkout.traces["a"] = "hangs"
    assert goldentrace("record", "--out", str(tmp_path / "out")) == 2
    assert list((tmp_path / "out").iterdir()) == []
    problem = "a: must run to the end (PYTHONHASHSEED=0); expected a trace, got hangs"
    assert f"goldentrace: {problem}\n" in capsys.readouterr().err


def test_out_that_is_a_file_is_refused(goldentrace, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert goldentrace("record", "--out", str(tmp_path / "out")) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        f"goldentrace: {tmp_path}/out: must be writable; "
        "expected a writable directory, got File exists"
    )
    assert (tmp_path / "out").read_text() == "mine"


def test_diff_of_equal_directories_passes(goldentrace, tmp_path):
    for side in ("one", "other"):
        goldentrace("record", "--out", str(tmp_path / side))
    assert goldentrace("diff", str(tmp_path / "one"), str(tmp_path / "other")) == 0


def test_diff_points_at_the_line_when_there_are_sites(
    goldentrace, checkout, make_trace, tmp_path, capsys
):
    goldentrace("record", "--out", str(tmp_path / "one"))
    checkout.traces["a"] = make_trace("a", width=576)
    goldentrace("record", "--out", str(tmp_path / "other"))
    capsys.readouterr()
    paths = [str(tmp_path / "one"), str(tmp_path / "other")]
    assert goldentrace("diff", *paths, "--format", "json") == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["base"] == {"side": paths[0]}
    assert verdict["causes"][0]["location"] == {"file": "assembler/stacks.py", "line": 123}
    assert verdict["scenarios"]["played"] == 2


def test_diff_of_two_files_ignores_what_they_are_called(goldentrace, make_trace, tmp_path, capsys):
    (tmp_path / "before.json").write_text(render(make_trace("a")))
    (tmp_path / "after.json").write_text(render(make_trace("a", width=576)))
    paths = [str(tmp_path / "before.json"), str(tmp_path / "after.json")]
    assert goldentrace("diff", *paths, "--format", "json") == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["causes"][0]["kind"] == "argument_changed"
    assert verdict["causes"][0]["scenarios"] == ["a"]
    assert goldentrace("diff", paths[0], paths[0]) == 0


def test_diff_shows_traces_that_only_one_directory_has(goldentrace, tmp_path, capsys):
    goldentrace("record", "--out", str(tmp_path / "one"))
    goldentrace("record", "a", "--out", str(tmp_path / "other"))
    capsys.readouterr()
    paths = [str(tmp_path / "one"), str(tmp_path / "other")]
    assert goldentrace("diff", *paths, "--format", "json") == 1
    assert json.loads(capsys.readouterr().out)["causes"][0]["kind"] == "scenario_removed"


@pytest.mark.parametrize(
    ("base", "head", "said"),
    [
        ("nowhere", "folder", "nowhere: must exist; expected a trace or a directory, got nothing"),
        ("folder", "a.json", "expected a directory, got a file"),
        ("empty", "empty", "must hold traces; expected at least one, got 0"),
        ("text.json", "a.json", "must be one complete JSON document"),
        ("old.json", "a.json", "schema must not be an older one; expected goldentrace.trace/2, as"),
    ],
)
def test_diff_of_what_is_no_trace_is_refused(
    goldentrace, make_trace, tmp_path, monkeypatch, capsys, base, head, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").mkdir()
    for path in ("folder/a.json", "a.json"):
        (tmp_path / path).write_text(render(make_trace("a")))
    (tmp_path / "text.json").write_text("no trace")
    (tmp_path / "old.json").write_text('{"schema": "goldentrace.trace/1"}')
    assert goldentrace("diff", base, head) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
