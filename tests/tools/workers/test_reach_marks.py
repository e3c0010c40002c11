"""Marks in functions: what they note, and that the functions are the same otherwise."""

import inspect
import sys
import traceback
from importlib import import_module

import pytest

from tools.workers.reach_marks import FunctionMarks
from traces.targets.common.fork import run_in_fork

MODULE = '''"""Text of the module."""

from __future__ import annotations

LIMIT = 4


def documented(size: int = LIMIT) -> int:
    """Text of the function."""
    return size


def only_text():
    """Nothing else."""


def global_first():
    global LIMIT
    LIMIT = 8


def fail():
    raise ValueError("full")


async def wait():
    return 1


class Pool:
    class Inner:
        def read(self):
            return 1

    @property
    def size(self):
        return LIMIT

    if LIMIT:

        @staticmethod
        def free():
            return [one for one in range(3)]
'''


@pytest.fixture
def marked(tmp_path, monkeypatch):
    """Import the module with marks and return what a function of it and of its marks returns."""
    package = tmp_path / "markpkg"
    package.mkdir()
    (package / "__init__.py").write_text("def first():\n    return 1\n")
    (package / "pools.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(work):
        def in_fork():
            marks = FunctionMarks(package)
            module = import_module("markpkg.pools")
            marks.clear()
            return work(module, marks)

        return run_in_fork(in_fork)

    return run


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda module: module.documented(), "documented"),
        (lambda module: module.only_text(), "only_text"),
        (lambda module: module.global_first(), "global_first"),
        (lambda module: module.wait().close(), ""),
        (lambda module: module.Pool.Inner().read(), "Pool.Inner.read"),
        (lambda module: module.Pool().size, "Pool.size"),
        (lambda module: module.Pool.free(), "Pool.free"),
    ],
)
def test_function_that_is_called_is_found_by_its_qualified_name(marked, call, name):
    def work(module, marks):
        call(module)
        return [found for _, found in marks.found()]

    # A coroutine that is never started has not reached its body.
    assert marked(work) == ([name] if name else [])


def test_the_package_itself_has_marks(marked, tmp_path):
    def work(_, marks):
        sys.modules["markpkg"].first()
        return list(marks.found())

    assert marked(work) == [(str(tmp_path / "markpkg" / "__init__.py"), "first")]


def test_module_that_is_imported_is_found_without_a_name(marked, tmp_path):
    def work(_, marks):
        del sys.modules["markpkg.pools"]
        import_module("markpkg.pools")
        return list(marks.found())

    assert marked(work) == [(str(tmp_path / "markpkg" / "pools.py"), "")]


def test_function_with_a_mark_is_the_same_otherwise(marked):
    def work(module, _):
        try:
            module.fail()
        except ValueError as error:
            line = traceback.extract_tb(error.__traceback__)[-1].line
        return (
            module.__doc__,
            module.documented.__doc__,
            module.only_text.__doc__,
            str(inspect.signature(module.documented)),
            inspect.getsource(module.only_text),
            module.documented(),
            line,
        )

    assert marked(work) == (
        "Text of the module.",
        "Text of the function.",
        "Nothing else.",
        "(size: 'int' = 4) -> 'int'",
        'def only_text():\n    """Nothing else."""\n',
        4,
        'raise ValueError("full")',
    )
