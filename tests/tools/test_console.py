"""Progress bars are shown on a terminal only."""

import io
import sys

from tools.console import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_nothing_is_shown(capsys):
    with progress("playing", total=2) as done:
        done("a")
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_bar_is_on_stderr(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("playing", total=2) as done:
        done("a")
        done("b")
    assert "playing" in terminal.getvalue()
    assert capsys.readouterr().out == ""
