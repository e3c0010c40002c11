import libcst as cst
import pytest

from tools.mutation.source.bindings import name_uses, names_in


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a + b", ["a", "b"]),
        ("a.b.c", ["a"]),
        ("f(a, key=b)", ["f", "a", "b"]),
        ("lambda a: a + b", ["b"]),
        ("lambda a=b: a", ["b"]),
        ("lambda *a, **k: (a, k, b)", ["b"]),
        ("lambda a: lambda b: a + b + c", ["c"]),
        ("(a, lambda a: a)", ["a"]),
        ("a[a]", ["a", "a"]),
    ],
)
def test_uses_are_where_a_name_stands_for_a_variable(text, names):
    value = cst.parse_expression(text)

    assert [name.value for name in name_uses(value)] == names
    assert names_in(value) == frozenset(names)


def test_what_an_import_is_called_is_no_use():
    module = cst.parse_module("def f():\n    from a import b as c\n    return c\n")

    assert [name.value for name in name_uses(module)] == ["f", "a", "c"]
