"""``goldentrace explore`` as a command: exit codes and bad input."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.cli import run_command, run_guarded
from tools.session import open_session

ROOT = Path(__file__).resolve().parents[3]


def refused(capsys, *arguments):
    """Return the one line of a request that cannot be carried out."""

    def desk(*, target, limit_seconds):
        return open_session(ROOT, target=target, limit_seconds=limit_seconds)

    code = run_guarded(lambda: run_command(["explore", *arguments], open_session=desk))
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    [line] = captured.err.splitlines()
    return line


def test_sound_code_has_no_violation():
    command = ("-m", "tools.cli", "explore", "--runs", "2")
    builders = ("--builder", "build_kv_only_stack", "--builder", "build_hybrid_swa_stack")
    done = subprocess.run(
        [sys.executable, *command, *builders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert (done.returncode, done.stdout) == (0, "2 builders, 2 runs each, seed 0: 0 violations\n")
    *progress, duration = done.stderr.splitlines()
    assert all(line.startswith("goldentrace: exploring: ") for line in progress)
    assert duration.startswith("goldentrace: ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--builder", "nobody"), "goldentrace: --builder: must be known; expected build_kv_only"),
        (("--policy", "never"), "goldentrace: --policy: must be known; expected latest, earliest"),
        (("--runs", "0"), "goldentrace: usage: Invalid value for '--runs'"),
        (("--replay", "/nowhere.json"), "goldentrace: /nowhere.json: must be readable"),
    ],
)
def test_what_makes_no_sense_is_refused(capsys, arguments, line):
    assert refused(capsys, *arguments).startswith(line)


def test_foreign_file_is_no_replay(capsys, tmp_path):
    file = tmp_path / "trace.json"
    file.write_text('{"schema": "goldentrace.trace/1"}')

    assert refused(capsys, "--replay", str(file)).startswith(
        f"goldentrace: {file}: must be a replay; expected goldentrace.replay/1"
    )


def test_folder_that_cannot_be_written_is_refused_before_anything_is_explored(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("tools.commands.explore.explore", fail_to_explore)
    file = tmp_path / "taken"
    file.write_text("mine")

    line = refused(capsys, "--out", str(file / "replays"), "--runs", "1")

    assert line == (
        f"goldentrace: {file}/replays: must be writable; expected a directory, got file {file}"
    )
    assert file.read_text() == "mine"


def fail_to_explore(exploration, *, on_batch):
    raise AssertionError("explored")
