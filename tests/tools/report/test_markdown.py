"""A verdict as Markdown, for a comment on a pull request."""

import msgspec
import pytest

from tests.tools.report.test_render import BOTH, CAUSE, ERROR, FAIL, MADE, text
from tools.report.render import Format


def test_markdown_problems_stand_below_the_table_and_what_follows():
    blocks = text(BOTH, Format.MARKDOWN).split("\n\n")
    assert blocks[2].startswith("| cause | what | before | after | where | scenarios |")
    assert blocks[-2:] == ["- a: is wrong\n- b: is wrong", "<!-- goldentrace native -->\n"]
    control = text(FAIL, Format.MARKDOWN)
    assert "is wrong" not in control
    marker = "\n<!-- goldentrace native -->\n"
    problems = "\n- a: is wrong\n- b: is wrong\n"
    assert text(BOTH, Format.MARKDOWN) == control.removesuffix(marker) + problems + marker


def test_markdown_has_a_table_of_causes_and_folded_consequences():
    blocks = text(FAIL, Format.MARKDOWN).split("\n\n")
    assert blocks[0] == "### goldentrace: **fail**"
    assert blocks[2].splitlines()[2] == (
        "| argument_dropped (behaviour) | `override_kv_cache_dim` | `656` | `nothing` "
        "| `assembler/stacks.py:123` | 2 scenarios: `nsa_fp8`, `nsa_fp8_direct` |"
    )
    assert "<summary>10 consequences of argument_dropped" in text(FAIL, Format.MARKDOWN)
    assert "- and 2 more: 2 shape_changed\n" in text(FAIL, Format.MARKDOWN)


@pytest.mark.parametrize(
    ("value", "cell"), [("a|b", '`"a\\|b"`'), ("a`b", '`` "a`b" ``'), ("<b>", '`"<b>"`')]
)
def test_markdown_cell_holds_any_value(value, cell):
    cause = msgspec.structs.replace(CAUSE, before=value)
    row = text(msgspec.structs.replace(FAIL, causes=(cause,)), Format.MARKDOWN).splitlines()[6]
    assert f"| {cell} |" in row


def test_markdown_problem_is_escaped():
    verdict = msgspec.structs.replace(ERROR, problems=("a_b: <x> | *y*",))
    assert "- a\\_b: &lt;x&gt; \\| \\*y\\*\n" in text(verdict, Format.MARKDOWN)


def test_hunk_that_makes_a_cause_is_shown_in_markdown():
    told = text(MADE, Format.MARKDOWN)
    assert "- made by assembler/stacks.py:121-122\n- `- width=width,`\n" in told
    assert "- `+ width=width \\| 1,`\n" in told
