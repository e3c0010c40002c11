"""The command line as a whole: bad input in one line, exit codes, a fast start."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from tools.cli import app, main, run_guarded
from tools.errors import ToolError
from tools.session import open_session

ROOT = Path(__file__).resolve().parents[2]


def one_error_line(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.endswith(" s")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "subject", "rest"),
    [
        (
            ["gate", "nsa"],
            "scenario: must be known",
            "expected one of `goldentrace list`, got nsa",
        ),
        (
            ["gate", "--base", "nowhere"],
            "side: must be known",
            "expected golden, worktree or a git revision, got 'nowhere'",
        ),
        (
            ["gate", "--format", "yaml"],
            "--format: must be known",
            "expected text, json, markdown, github, sarif, junit, got 'yaml'",
        ),
        (
            ["check", "--device", "tpu"],
            "--device: must be known",
            "expected auto, cpu, sim, cuda, cuda:N, sim:POLICY:SEED, got 'tpu'",
        ),
        (
            ["check", "--timeout", "-1"],
            "--timeout: must be positive",
            "expected seconds, got '-1'",
        ),
        (
            ["gate", "--nonsense"],
            "usage: No such option: --nonsense",
            "expected what `goldentrace gate --help` shows, got gate --nonsense",
        ),
        (
            ["dance"],
            "usage: No such command 'dance'",
            "expected what `goldentrace --help` shows, got dance",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(goldentrace, capsys, arguments, subject, rest):
    assert goldentrace(*arguments) == 2
    assert one_error_line(capsys) == f"goldentrace: {subject}; {rest}"


def test_no_verb_is_bad_usage(goldentrace, capsys):
    assert goldentrace() == 2
    assert one_error_line(capsys).startswith("goldentrace: usage: Missing command")


def test_bad_input_still_gives_machines_a_verdict(goldentrace, capsys):
    assert goldentrace("gate", "nsa", "--format", "json") == 2
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["verdict"] == "error"
    assert verdict["problems"][0].startswith("scenario: must be known")


def test_json_is_the_only_thing_on_stdout_and_seconds_are_on_stderr(goldentrace, capsys):
    assert goldentrace("gate", "--format", "json") == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert captured.err.startswith("goldentrace: ")
    assert captured.err.endswith(" s\n")


def test_list_as_json_has_scenarios_builders_and_gaps(goldentrace, checkout, capsys):
    checkout.builders = ("build_kv_only_stack", "build_new_stack")
    assert goldentrace("list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "target": "native",
        "scenarios": [
            {"name": name, "builder": "build_kv_only_stack", "config": {"page_size": 64}}
            for name in ("a", "b")
        ],
        "builders": [
            {"name": "build_kv_only_stack", "scenarios": 2},
            {"name": "build_new_stack", "scenarios": 0},
        ],
        "uncovered": ["build_new_stack"],
    }


def test_list_as_text_shows_the_gap(goldentrace, checkout, capsys):
    checkout.builders = ("build_kv_only_stack", "build_new_stack")
    assert goldentrace("list") == 0
    assert capsys.readouterr().out == (
        "native: 2 scenarios, 2 builders\n\n"
        "build_kv_only_stack: 2 scenarios\n  a\n  b\n\n"
        "build_new_stack: 0 scenarios, UNCOVERED\n"
    )


def test_unknown_target_is_refused():
    with pytest.raises(
        ToolError, match=r"^--target: must be known; expected native, sglang, got 'x'$"
    ):
        open_session(ROOT, target="x", limit_seconds=1.0)


def test_internal_error_is_one_line_without_traceback(capsys, monkeypatch):
    monkeypatch.delenv("GOLDENTRACE_DEBUG", raising=False)

    def fail() -> int:
        raise RuntimeError("two\nlines")

    assert run_guarded(fail) == 2
    assert one_error_line(capsys) == (
        "goldentrace: internal error: must not happen; expected a result, "
        "got RuntimeError: two lines; GOLDENTRACE_DEBUG=1 shows where"
    )


def test_debug_variable_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("GOLDENTRACE_DEBUG", "1")
    assert run_guarded(lambda: 1 // 0) == 2
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_has_its_own_exit_code(capsys):
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert run_guarded(interrupt) == 130
    assert one_error_line(capsys) == "goldentrace: interrupted: nothing was changed"


def test_interrupted_verb_says_so(goldentrace, checkout, monkeypatch, capsys):
    def interrupt(**_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkout, "session", interrupt)
    assert goldentrace("gate") == 130
    assert one_error_line(capsys) == "goldentrace: interrupted: nothing was changed"


def test_termination_unwinds_like_an_interrupt():
    unwound = []

    def terminate() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            unwound.append(True)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    assert run_guarded(terminate) == 130
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def command_paths(command=None, path=()):
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        return [path]
    below = [command_paths(one, (*path, name)) for name, one in command.commands.items()]
    return [path, *(found for paths in below for found in paths)]


@pytest.mark.parametrize("path", command_paths(), ids=" ".join)
def test_help_names_no_place_of_this_machine(path, capsys):
    assert main([*path, "--help"]) == 0
    # A path is wrapped at any character.
    shown = "".join(capsys.readouterr().out.split())
    assert "Usage" in shown
    assert [place for place in (str(ROOT), str(Path.home())) if place in shown] == []


def test_help_names_every_verb(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for verb in ("list", "record", "check", "gate", "diff", "regenerate", "bench"):
        assert verb in out


def test_command_line_starts_without_torch_and_without_the_target():
    code = "import sys, tools.cli; print([m for m in ('torch', 'assembler') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_checkout_one_stands_in_is_judged(tmp_path):
    """A second checkout whose command line says its own name."""
    for package in ("assembler", "traces", "tools"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "goldentrace"\n')
    (tmp_path / "tools" / "cli.py").write_text("import sys; print('other', sys.argv[1:])\n")
    done = subprocess.run(
        [sys.executable, "-c", "from tools.cli import main; main(['gate', 'x'])"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "other ['gate', 'x']\n"


def test_version_is_that_of_the_checkout(goldentrace, capsys):
    assert goldentrace("--version") == 0
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr() == (f"goldentrace {found}\n", "")
