"""Progress: a bar on a terminal, lines in a log."""

import io
import sys
from types import SimpleNamespace

from tools.console import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_nothing_is_shown(capsys):
    with progress("playing", total=2) as done:
        done("a")
    assert capsys.readouterr() == ("", "")


def test_in_a_log_a_line_comes_every_ten_seconds_with_a_forecast(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("tools.console.time", SimpleNamespace(monotonic=lambda: clock[0]))
    weights = {"a": 3.0, "b": 1.0, "c": 1.0}
    with progress("playing", total=4, weights=weights) as done:
        clock[0] = 9.0
        done("a")
        clock[0] = 12.0
        done("b")
        clock[0] = 15.0
        done("c")
        clock[0] = 25.0
        done("d")
    # Four names weigh 4 * 5/3 s; after the first one 1 of them took 3 s, so the last 8/3 take 8 s.
    assert capsys.readouterr().err.splitlines() == [
        "goldentrace: playing: 2 of 4, about 8 s left",
        "goldentrace: playing: 4 of 4",
    ]


def test_on_a_terminal_the_bar_is_on_stderr(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("playing", total=2) as done:
        done("a")
        done("b")
    assert "playing" in terminal.getvalue()
    assert capsys.readouterr().out == ""
