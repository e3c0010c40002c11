"""The fixture around a stranger's own package, which names what is recorded."""

import re
import textwrap

import pytest
import syrupy

from tests.traces.projects import QUICK

pytest_plugins = ["pytester"]

PACKAGE = """
import itertools
from dataclasses import dataclass, field
import torch

stamps = itertools.count()

class Pool:
    def __init__(self, blocks, *, width=4):
        self.rows = torch.zeros(blocks, width)

    def move(self, source, target):
        self.rows[target].copy_(self.rows[source])

@dataclass
class Request:
    tokens: int
    stamp: int = 0

def serve(request, *, limit=8):
    return Pool(request.tokens, width=limit).move(0, 1)
"""
TEST = """
from fresh_engine import Pool, Request, serve

def test_serve(golden_trace):
    with golden_trace("serve"{}):
        serve(Request(3))
"""


# Frames of the recorder, and of torch where it serves the recorder.
HIDDEN = re.compile(r"call_recorder|trampoline|torch_copies|_dynamo|_ops\.py")


class FreshProject:
    """A project with a package of its own, run in a process of its own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.path = pytester.path
        self.pytester = pytester
        self.write("fresh_engine.py", PACKAGE)
        self.test()

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(textwrap.dedent(text))

    def test(self, options: str = ', watch=["fresh_engine"]') -> None:
        self.write("test_serve.py", TEST.format(options))

    def change(self, old: str, new: str) -> None:
        assert old in PACKAGE
        self.write("fresh_engine.py", PACKAGE.replace(old, new))

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess(*QUICK, *arguments)


@pytest.fixture
def project(pytester, monkeypatch) -> FreshProject:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(syrupy, "_syrupy", syrupy._syrupy)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return FreshProject(pytester)


def test_change_of_a_watched_package_is_explained(project):
    project.run("--golden-update").assert_outcomes(passed=1)
    project.run().assert_outcomes(passed=1)
    project.change("Pool(request.tokens, width=limit)", "Pool(request.tokens)")

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "golden_trace serve: must be as in golden/serve.json",
            "1. argument_dropped  width  8 -> 4",
            "   serve no longer passes width to Pool.",
            "   fresh_engine.py:21",
            "   It leads to:",
            "     shape_changed device.Pool.rows [[]3,8] -> [[]3,4]",
            "if this is meant, accept it: pytest --golden-update 'test_serve.py::test_serve'",
        ]
    )


def test_error_of_watched_code_shows_no_frame_of_the_recorder(project):
    project.run("--golden-update").assert_outcomes(passed=1)
    project.change("Pool(request.tokens, width=limit)", "Pool(request.tokens, wide=limit)")

    result = project.run()

    result.assert_outcomes(failed=1)
    error = "E       TypeError: Pool.__init__() got an unexpected keyword argument 'wide'"
    result.stdout.fnmatch_lines([error, "fresh_engine.py:21: TypeError"])
    assert not HIDDEN.search(result.stdout.str())


def test_error_of_a_copy_ends_at_the_line_that_copies_and_says_what_had_changed(project):
    project.run("--golden-update").assert_outcomes(passed=1)
    project.change("Pool(request.tokens, width=limit)", "Pool(1, width=limit)")

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E       golden_trace serve: this differs from golden/serve.json",
            "E       1. argument_changed  blocks  3 -> 1",
            "E          fresh_engine.py:21",
            "fresh_engine.py:13: IndexError",
        ]
    )
    assert not HIDDEN.search(result.stdout.str())


def test_error_of_a_block_without_a_golden_has_no_note(project):
    """Control."""
    project.change("Pool(request.tokens, width=limit)", "Pool(1, width=limit)")

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*golden_trace serve:*")


def test_names_may_stand_in_pyproject(project):
    project.test("")
    project.write("pyproject.toml", '[tool.goldentrace]\nwatch = ["fresh_engine"]\n')

    project.run("--golden-update").assert_outcomes(passed=1)

    assert '"callee":"Pool.move"' in (project.path / "golden" / "serve.json").read_text()


def test_block_that_is_not_watched_fails_and_writes_nothing(project):
    project.test("")

    result = project.run("--golden-update")

    result.assert_outcomes(failed=1)
    text = (
        "record: must see something; expected a call, a tensor or an event, got none in assembler;"
    )
    result.stdout.fnmatch_lines(
        [f"golden_trace serve: {text} other code is named by watch=[[]...]"]
    )
    result.stdout.no_fnmatch_line("During handling of*")
    assert not (project.path / "golden").exists()


def test_value_that_changes_from_block_to_block_is_named_with_its_field(project):
    project.write(
        "test_serve.py",
        """
        from fresh_engine import Pool, Request, serve, stamps

        def test_serve(golden_trace):
            for _ in range(2):
                with golden_trace("serve", watch=[serve, Pool, Request]):
                    serve(Request(3, stamp=next(stamps)))
        """,
    )

    result = project.run("--golden-update")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "golden_trace serve: must be deterministic; expected the same twice, got",
            "*stamp*0 -> 1*",
        ]
    )
    assert list((project.path / "golden").glob("*")) == []


def test_error_of_the_block_comes_before_a_type_without_a_form(project):
    project.write(
        "test_serve.py",
        """
        from fresh_engine import serve

        class Request:
            tokens = 3

        def test_serve(golden_trace):
            with golden_trace("serve", watch=["fresh_engine"]):
                serve(Request(), limit="wide")
        """,
    )

    result = project.run("--golden-update")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E       golden_trace serve: record: must see everything; *, got test_serve.Request",
            "fresh_engine.py:10: TypeError",
            "FAILED test_serve.py::test_serve - TypeError: *",
        ]
    )
    assert not HIDDEN.search(result.stdout.str())
    assert "RecorderError" not in result.stdout.str()
    assert list((project.path / "golden").glob("*")) == []


@pytest.mark.parametrize("options", [(), ("--golden-update",)])
def test_block_whose_error_the_test_catches_outside_of_it_fails_the_test(project, options):
    project.write(
        "test_serve.py",
        """
        import pytest
        from fresh_engine import Request, serve

        def test_serve(golden_trace):
            with pytest.raises(TypeError):
                with golden_trace("serve", watch=["fresh_engine"]):
                    serve(Request(3), limit="wide")
        """,
    )

    result = project.run(*options)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "golden_trace serve: must be compared; *, got TypeError out of it",
        ]
    )


def test_interrupt_of_a_block_is_no_error_of_the_test(project):
    project.write(
        "test_serve.py",
        """
        from fresh_engine import Request, serve

        def test_serve(golden_trace):
            with golden_trace("serve", watch=["fresh_engine"]):
                serve(Request(3))
                raise KeyboardInterrupt
        """,
    )

    result = project.run()

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines("*KeyboardInterrupt*")
    assert "golden_trace serve" not in result.stdout.str() + result.stderr.str()


def test_error_that_is_caught_inside_of_the_block_is_part_of_the_golden(project):
    """Control."""
    project.write(
        "test_serve.py",
        """
        import pytest
        from fresh_engine import Request, serve

        def test_serve(golden_trace):
            with golden_trace("serve", watch=["fresh_engine"]):
                with pytest.raises(TypeError):
                    serve(Request(3), limit="wide")
        """,
    )

    project.run("--golden-update").assert_outcomes(passed=1)
    project.run().assert_outcomes(passed=1)
    assert "must be tuple of ints" in (project.path / "golden" / "serve.json").read_text()


def test_values_of_a_foreign_class_take_a_plain_form(project):
    project.write(
        "test_serve.py",
        """
        from fractions import Fraction
        from fresh_engine import serve, Pool

        class Request:
            tokens = 3

        def test_serve(golden_trace):
            plain = {Request: lambda request: {"tokens": request.tokens}}
            with golden_trace("serve", watch=[serve, Pool], values=plain):
                serve(Request())
        """,
    )

    project.run("--golden-update").assert_outcomes(passed=1)

    assert '{"map":[["tokens",3]]}' in (project.path / "golden" / "serve.json").read_text()
