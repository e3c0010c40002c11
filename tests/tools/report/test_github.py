"""A verdict as workflow commands: annotations on lines of a pull request."""

import msgspec

from tests.tools.report.test_render import BOTH, CAUSE, ERROR, FAIL, INTERFACE, PASS, text
from tools.report.render import Format
from traces.schema.model import Location
from traces.schema.verdict import (
    Kind,
)


def test_annotation_stands_on_the_line_of_the_cause():
    first, last = text(FAIL, Format.GITHUB).splitlines()
    assert first.startswith(
        "::error file=assembler/stacks.py,line=123,title=argument_dropped::"
        "override_kv_cache_dim 656 -> nothing%0Abuild_shared_anchor_stack -> "
    )
    assert "%0Aand 2 more: 2 shape_changed%0A2 scenarios: nsa_fp8, nsa_fp8_direct" in first
    assert last == (
        "fail: native: worktree against golden. 41 scenarios played, 39 unchanged, 2 changed."
    )


def test_annotation_escapes_what_would_end_it():
    cause = msgspec.structs.replace(
        CAUSE,
        location=Location(file="a,b:c%.py", line=1),
        message="50%\r\nof it::",
        consequences=(),
    )
    [line, _] = text(msgspec.structs.replace(FAIL, causes=(cause,)), Format.GITHUB).splitlines()
    assert line.startswith("::error file=a%2Cb%3Ac%25.py,line=1,title=argument_dropped::")
    assert "50%25%0D%0Aof it::" in line


def test_annotations_of_problems_come_after_those_of_causes():
    first, *problems, _ = text(BOTH, Format.GITHUB).splitlines()
    assert first.startswith("::error file=assembler/stacks.py,line=123,title=argument_dropped::")
    assert problems == [
        "::error title=goldentrace::a: is wrong",
        "::error title=goldentrace::b: is wrong",
    ]


def test_problem_is_an_annotation_without_a_line():
    [line, _] = text(ERROR, Format.GITHUB).splitlines()
    assert line == "::error title=goldentrace::a: 100%25 gone%0Abad"


def test_interface_difference_is_a_warning_unless_strict():
    verdict = msgspec.structs.replace(PASS, causes=(INTERFACE,))
    assert text(verdict, Format.GITHUB).startswith("::warning file=")
    assert text(verdict, Format.GITHUB, strict=True).startswith("::error file=")


def test_finding_without_a_place_is_an_error():
    finding = msgspec.structs.replace(CAUSE, kind=Kind.UNCOVERED_BUILDER, location=None)
    verdict = msgspec.structs.replace(FAIL, causes=(finding,))
    assert text(verdict, Format.GITHUB).startswith("::error title=uncovered_builder::")
