"""Each operator on a few lines: what it changes, where, and that lines stay where they are."""

import pytest

from tools.mutation.generator import MutationScope, generate_mutants
from tools.mutation.operators import OPERATORS
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import SourceUnit

SOURCE = """\
class Pool:
    def __init__(self, *, size: int, width: int, name: str = "kv", group: object = None) -> None:
        self.size = size


def build(*, size: int, tp_group: object, layer_num: int = 4) -> Pool:
    pool = Pool(
        size=size,
        width=size + 1,
        name="x",
    )
    entries = [kv_entry, mamba_entry]
    for layer in range(layer_num):
        pool.backup(layer)
    stream.wait_event(event)
    pool.first()
    pool.second()
    finish(tp_group=tp_group, entries=entries)
    return Pool(size=size, width=2)
"""


def mutants(operator, source=SOURCE):
    tree = SourceTree([SourceUnit("wiring.py", source.encode())])
    scope = MutationScope(
        files=("wiring.py",),
        wiring_paths=("wiring",),
        wiring_functions=(),
        ordering_paths=("wiring",),
    )
    return generate_mutants(tree, scope, {operator: OPERATORS[operator]})


def changed_lines(mutant):
    before, after = SOURCE.splitlines(), mutant.texts["wiring.py"].splitlines()
    assert len(before) == len(after)
    return [new.strip() for old, new in zip(before, after, strict=True) if old != new]


def test_drop_keyword_leaves_every_keyword_out_once():
    found = mutants("drop_keyword")
    assert [mutant.parameters for mutant in found] == [
        ("size",),
        ("width",),
        ("name",),
        ("tp_group",),
        ("entries",),
        ("size",),
        ("width",),
    ]
    assert changed_lines(found[2]) == [""]
    assert changed_lines(found[5]) == ["return Pool( width=2)"]
    assert (found[2].changed_ranges[0].first, found[2].changed_ranges[0].last) == (7, 11)
    assert found[2].key == "wiring.py build Pool name"


def test_same_mutant_of_two_operators_is_one():
    tree = SourceTree([SourceUnit("wiring.py", SOURCE.encode())])
    scope = MutationScope(
        files=("wiring.py",),
        wiring_paths=("wiring",),
        wiring_functions=(),
        ordering_paths=(),
    )
    both = {"one": OPERATORS["drop_keyword"], "other": OPERATORS["drop_keyword"]}
    assert {mutant.operator for mutant in generate_mutants(tree, scope, both)} == {"one"}


def test_drop_parameter_changes_signature_body_and_callers():
    source = (
        "def helper(*, size: int, width: int = 3):\n    return size * width\n\n\n"
        "def build(*, size):\n    return helper(size=size, width=7)\n"
    )
    found = mutants("drop_parameter", source)
    texts = [mutant.texts["wiring.py"] for mutant in found]
    assert [mutant.parameters for mutant in found] == [("size",), ("width",), ("size",)]
    assert texts[1] == (
        "def helper(*, size: int, ):\n    return size * (3)\n\n\n"
        "def build(*, size):\n    return helper(size=size, )\n"
    )


def test_default_argument_passes_the_callees_default():
    [name] = mutants("default_argument")
    assert changed_lines(name) == ['name="kv",']


def test_swap_arguments_needs_one_type():
    found = mutants("swap_arguments")
    assert [mutant.parameters for mutant in found] == [("size", "width"), ("size", "width")]
    assert changed_lines(found[0]) == ["size=size + 1,", "width=size,"]


def test_sibling_value_comes_from_another_call():
    found = mutants("sibling_value")
    assert [changed_lines(mutant) for mutant in found] == [
        ["width=2,"],
        ["return Pool(size=size, width=size + 1)"],
    ]


def test_none_group():
    [found] = mutants("none_group")
    assert changed_lines(found) == ["finish(tp_group=None, entries=entries)"]


def test_layer_range_off_by_one():
    found = mutants("layer_off_by_one")
    assert [changed_lines(mutant) for mutant in found] == [
        ["for layer in range((layer_num) + 1):"],
        ["for layer in range((layer_num) - 1):"],
        ["for layer in range(1, layer_num):"],
    ]


@pytest.mark.parametrize(
    ("operator", "changes"),
    [
        ("drop_entry", [["entries = [ mamba_entry]"], ["entries = [kv_entry, ]"]]),
        ("drop_edge", [["..."]]),
        ("drop_transfer", [["..."]]),
        ("reorder_calls", [["pool.first()", "stream.wait_event(event)"]]),
    ],
)
def test_statements(operator, changes):
    found = [changed_lines(mutant) for mutant in mutants(operator)]
    assert found[: len(changes)] == changes


def test_calls_that_need_one_another_keep_their_order():
    source = "def build():\n    a = make()\n    use(a)\n"
    assert mutants("reorder_calls", source) == []


def test_same_bytecode_is_equivalent():
    # A default written out where the value is the default already in another spelling.
    source = SOURCE.replace('name="x"', "name='kv'")
    [name] = mutants("default_argument", source)
    assert name.is_equivalent
    assert not mutants("default_argument")[0].is_equivalent


def test_what_words_an_error_is_left_alone():
    source = 'def build():\n    raise ValueError(message="x")\n'
    assert mutants("drop_keyword", source) == []
