"""Harmless refactors do not change what a program returns, and a stack comes from its seed."""

from random import Random

import pytest

from tools.mutation.neutral.refactor_stack import (
    apply_stack,
    parse_cached,
    random_refactor,
    random_stack,
)
from tools.mutation.neutral.rewrites import REWRITES
from tools.mutation.source.outside import OutsideNames
from tools.mutation.source.signatures import SourceTree

SOURCE = '''\
"""A module."""

from os.path import join


class Pool:
    def __init__(self, *, size: int, name: str = "kv", pages: int = 1) -> None:
        self.size = size * pages
        self.name = name


def _half(number):
    return number // 2


def made(size, width=3):
    return Pool(size=size * width, name="x")


def build(size: int) -> tuple:
    # A comment that is not kept.
    pool = made(size, width=4)
    half = _half(size)
    other = Pool(size=half)
    options = {"name": "splat"}
    third = Pool(size=size, pages=2, **options)
    names = join("a", "b"), third.name, third.size
    return pool.size, pool.name, other.size, other.name, names, _half(number=size)
'''
FILE = "wiring.py"
EXPECTED = (32, "x", 4, "kv", ("a/b", "splat", 16), 4)


def result(texts):
    names = {}
    text = texts[FILE]
    if moved := [file for file in texts if file != FILE]:
        exec(texts[moved[0]], names)
        return names["build"](8)
    exec(text, names)
    return names["build"](8)


@pytest.mark.parametrize("kind", list(REWRITES))
def test_each_kind_changes_the_text_and_not_the_result(kind):
    tree = SourceTree([parse_cached(FILE, SOURCE)])
    found = [
        changed
        for seed in range(12)
        if (changed := random_refactor(kind, tree, tree.units[0], Random(seed)))
    ]
    assert found
    for changed in found:
        texts = {FILE: SOURCE, **changed}
        assert texts[FILE] != SOURCE
        assert result(texts) == EXPECTED


def test_reordered_keywords_keep_what_is_unpacked():
    source = "def build(size):\n    return made(*[size], width=1, name=2, **{'pages': 3})\n"
    unit = parse_cached(FILE, source)
    texts = [found[FILE] for found in REWRITES["reorder_keywords"](SourceTree([unit]), unit)]
    assert texts == [], "a list is evaluated: its place matters"
    source = "def build(size):\n    return made(*size, width=1, name=2, **rest)\n"
    unit = parse_cached(FILE, source)
    texts = [found[FILE] for found in REWRITES["reorder_keywords"](SourceTree([unit]), unit)]
    call = "def build(size):\n    return made(*size, name=2, width=1, **rest)\n"
    assert texts == [call, call]


def test_stacks_come_from_their_seed():
    kinds = tuple(REWRITES)
    assert random_stack(7, kinds) == random_stack(7, kinds)
    assert random_stack(7, kinds) != random_stack(8, kinds)
    sources = {FILE: SOURCE}
    one = apply_stack(sources, random_stack(7, kinds), outside=OutsideNames())
    assert one == apply_stack(sources, random_stack(7, kinds), outside=OutsideNames())


@pytest.mark.parametrize("seed", range(8))
def test_stacks_keep_the_result(seed):
    kinds = tuple(kind for kind in REWRITES if kind != "move_module")
    found = apply_stack({FILE: SOURCE}, random_stack(seed, kinds), outside=OutsideNames())
    assert result({FILE: SOURCE, **found.texts}) == EXPECTED


DECORATED = """\
from functools import wraps


def counted(function):
    @wraps(function)
    def inner(*arguments):
        return len(arguments), function(*arguments)
    return inner


@counted
def build(size):
    return size * 2
"""


def test_a_layer_is_there_when_the_module_is_imported():
    unit = parse_cached(FILE, DECORATED)

    (found,) = REWRITES["new_layer"](SourceTree([unit]), unit)

    assert "return _wraps_1(*arguments, **keywords)" in found[FILE]
    assert result(found) == (1, 16)
