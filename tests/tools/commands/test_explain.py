"""``goldentrace explain``."""

from tools.cli import main
from traces.schema.verdict import Kind


def test_kind_is_explained(capsys):
    assert main(["explain", "argument_dropped"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("argument_dropped: Argument no longer passed\n")
    assert "Look at: " in out


def test_all_kinds_are_listed_in_order(capsys):
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(Kind)


def test_unknown_kind_is_refused(capsys):
    assert main(["explain", "argument_lost"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "goldentrace: KIND: must be known; expected a kind of `goldentrace explain`, "
        "got 'argument_lost'\n"
    )
