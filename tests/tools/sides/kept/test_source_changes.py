"""Changes between two texts of a module: what lies in a function, and what does not."""

import pytest

from tools.sides.kept.source_changes import EVERYTHING, changed_functions, compare_modules

BASE = '''
import os

LIMIT = 4


def width(pool, *, scale=1):
    """Width of a row."""
    return pool.size * scale + LIMIT


class Host:
    layers = 2

    @property
    def size(self):
        return [one for one in range(self.layers)]

    def load(self):
        def inner():
            return os.name
        return inner


if LIMIT > 3:
    def extra():
        yield 1
'''


def change_of(old: str, new: str):
    assert BASE.count(old) == 1
    return compare_modules(BASE, BASE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "functions"),
    [
        ("* scale", "+ scale", {"width"}),
        ("Width of a row", "The width", {"width"}),
        ("return [one for", "return [2 * one for", {"Host.size"}),
        ("return os.name", "return os.name * 2", {"Host.load"}),
        ("yield 1", "yield 2", {"extra"}),
    ],
)
def test_changed_body_is_a_change_of_its_function(old, new, functions):
    change = change_of(old, new)
    assert change.functions == functions
    assert not change.is_outside


def test_names_that_only_one_text_uses_in_its_functions_are_named():
    change = change_of("* scale", "* pool.ratio")
    assert not change.is_outside
    assert change.names == {"ratio"}
    assert change_of("* scale", "* 2").names == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 4", "LIMIT = 5"),
        ("import os", "import os, sys"),
        ("scale=1", "scale=2"),
        ("(pool, *,", "(pool, other=None, *,"),
        ("layers = 2", "layers = 3"),
        ("@property", "@staticmethod"),
        ("def extra", "def another"),
        ("yield 1", "return 1"),
        ("LIMIT > 3", "LIMIT > 2"),
        ("class Host:", "class Host(dict):"),
        ("    def load(self):", "    def more(self):\n        pass\n\n    def load(self):"),
    ],
)
def test_change_outside_bodies_concerns_the_whole_module(old, new):
    assert change_of(old, new) == EVERYTHING


@pytest.mark.parametrize(
    ("old", "new"),
    [("LIMIT = 4", "LIMIT = 4  # tokens"), ("\n\nclass", "\n\n\n\nclass"), ("* scale", "*  scale")],
)
def test_comments_and_spaces_are_no_change(old, new):
    assert change_of(old, new).is_empty


POOL = "class Pool:\n    def size(self):\n        {}\n        return pages\n"


@pytest.mark.parametrize(
    "body",
    [
        "pages: int = 64 * 1024",
        "pages = 65536",
        "pages = (\n            64 * 1024\n        )",
    ],
)
def test_body_of_the_same_bytecode_is_no_change(body):
    assert compare_modules(POOL.format("pages = 64 * 1024"), POOL.format(body)).is_empty


@pytest.mark.parametrize(
    "body",
    [
        "pages = 64 * 1025",
        "pages = 65536.0",
        "other = None\n        pages = 64 * 1024",
        "self.pages: int = 1\n        pages = 64 * 1024",
        "'Return pages.'\n        pages = 64 * 1024",
    ],
)
def test_body_of_other_bytecode_is_a_change(body):
    change = compare_modules(POOL.format("pages = 64 * 1024"), POOL.format(body))
    assert change.functions == {"Pool.size"}
    assert not change.is_outside


def test_annotation_that_is_kept_as_text_is_a_change():
    text = "{}def outer():\n    def inner(pages: {}):\n        pass\n    return inner\n"
    future = "from __future__ import annotations\n"

    assert compare_modules(text.format("", "2 * 3"), text.format("", "6")).is_empty
    assert compare_modules(text.format(future, "2 * 3"), text.format(future, "6")).functions == {
        "outer"
    }


@pytest.mark.parametrize("text", [None, "def broken(:", "x = '\0'"])
def test_text_that_cannot_be_compiled_may_be_anything(text):
    assert compare_modules(BASE, text) == EVERYTHING
    assert compare_modules(text, BASE) == EVERYTHING


@pytest.mark.parametrize(
    ("old", "new", "functions"),
    [
        ("* scale", "+ scale", {"width"}),
        ("import os\n", "import os\nimport sys\n", set()),
        (
            "    def load(self):",
            "    def save(self):\n        return 1\n\n    def load(self):",
            set(),
        ),
        ("def width(", "def breadth(", set()),
        ("return os.name", "return os.name  # posix", set()),
        ("return os.name", "return os.name * 2", {"Host.load"}),
        ("yield 1", "return 1", {"extra"}),
    ],
    ids=["body", "import", "added", "renamed", "comment", "nested", "generator"],
)
def test_changed_functions_are_those_of_both_texts_whatever_else_changed(old, new, functions):
    assert BASE.count(old) == 1
    changed = BASE.replace(old, new)
    assert changed_functions(BASE, changed) == functions
    limited = changed.replace("LIMIT = 4", "LIMIT = 5").replace("range(self.layers)", "range(8)")
    assert changed_functions(BASE, limited) == {*functions, "Host.size"}


def test_functions_of_one_name_are_compared_together():
    getter = "class Host:\n    @property\n    def size(self):\n        return 1\n"
    setter = "\n    @size.setter\n    def size(self, n):\n        self.n = n\n"
    assert changed_functions(getter + setter, getter + setter.replace("= n", "= n + 1")) == {
        "Host.size"
    }
    assert changed_functions(getter + setter, f"LIMIT = 1\n{getter}{setter}") == set()


def test_text_that_cannot_be_compiled_has_no_changed_functions():
    assert changed_functions(BASE, f"{BASE}def broken(:") == set()
    assert changed_functions(None, BASE) == set()
