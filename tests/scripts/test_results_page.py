"""The page of measured results is generated, and every result has its command."""

import pytest

from scripts.results_page import PAGE, SOURCE, render

ONE = """
[machines]
laptop = "two cores"

[[result]]
topic = "Speed"
claim = "gate, warm"
value = "1.0 s"
command = "goldentrace gate"
machine = "laptop"
revision = "abc"
"""


def test_committed_page_is_what_the_file_gives():
    assert PAGE.read_text("utf-8") == render(SOURCE.read_text("utf-8"))


def test_result_stands_in_its_topic_beside_its_command():
    assert "## Speed\n" in render(ONE)
    assert "| gate, warm | 1.0 s | `goldentrace gate` | `laptop` | `abc` |\n" in render(ONE)


def test_result_without_a_command_is_refused():
    with pytest.raises(ValueError, match=r"^result: fields; expected .*'command'"):
        render(ONE.replace('command = "goldentrace gate"\n', ""))


def test_unknown_machine_is_refused():
    with pytest.raises(
        ValueError, match=r"^gate, warm: machine; expected one of \['laptop'\], got x"
    ):
        render(ONE.replace('machine = "laptop"', 'machine = "x"'))
