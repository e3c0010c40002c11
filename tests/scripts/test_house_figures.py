"""The rules of the house hold, and each of them can fail."""

from pathlib import Path

import pytest

from scripts.house_figures import faults, measure, size
from scripts.source_modules import all_functions, read_modules

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path):
    def write(**texts):
        for name, text in texts.items():
            file = tmp_path / "tools" / f"{name.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return read_modules(tmp_path, "tools")

    return write


def test_rules_hold_in_this_repository(capsys):
    from scripts.house_figures import check

    assert check(ROOT) == 0, capsys.readouterr().out


def test_clean_tree_breaks_no_rule(tree):
    modules = tree(one='"""One."""\nclass Pool:\n    """A pool."""\n', other="import tools.one\n")
    assert [where for where in faults(modules).values() if where] == []
    assert size(modules)["lines"] == 4


@pytest.mark.parametrize(
    ("rule", "texts", "place"),
    [
        (
            "public class names in several modules",
            {"one": "class Pool: ...\n", "other": "class Pool: ...\nclass _Own: ...\n"},
            "Pool: tools.one, tools.other",
        ),
        (
            "module circles",
            {"one": "from tools.other import f\n", "other": "def g():\n    import tools.one\n"},
            "tools.one <-> tools.other",
        ),
        (
            "folder circles",
            {"one": "import tools.sub.two\n", "sub__two": "", "sub__three": "import tools.one\n"},
            "tools: one <-> sub",
        ),
        (
            "functions over 60 lines",
            {"one": f"def f():\n{'    x = 1' * 1}\n" + "    x = 1\n" * 60},
            "62 tools.one.f",
        ),
        (
            "first docstring lines with a question word",
            {"one": 'def f():\n    """Whether it is so."""\n'},
            "tools.one.f: Whether it is so.",
        ),
    ],
)
def test_broken_rule_is_found(tree, rule, texts, place):
    found = faults(tree(**texts))
    assert found.pop(rule) == [place]
    assert not any(found.values())


def test_published_signatures_may_be_long(tree):
    body = "    x = 1\n" * 61
    modules = tree(one=f"def build_kv_only_stack():\n{body}")
    assert not any(faults(modules).values())
    assert [name for name, _ in all_functions(modules)] == ["tools.one.build_kv_only_stack"]


def test_figures_count_what_they_name(tmp_path):
    (tmp_path / "assembler").mkdir()
    (tmp_path / "assembler" / "one.py").write_text(
        '"""Two words."""\n# a comment\ndef f(a, b, c, d, e, g, h): return f(a=a, b=1)\n'
        "def k(x): return isinstance(x, MHAPool) and PoolFamily.MHA\n"
    )
    figures, lists = measure(tmp_path)
    assert lists["functions over 6 parameters"] == ["7 assembler.one.f"]
    assert lists["family switches, assembler/"] == [
        "assembler.one isinstance:4",
        "assembler.one PoolFamily:4",
    ]
    assert figures["keywords forwarded, assembler/"] == 1
    assert figures["docstrings"] == {"number": 1, "words": 2, "words per docstring": 2.0}
    assert figures["comments per 100 code lines, assembler/"] == 50.0


def test_a_parameter_that_a_function_hands_on_counts_and_one_kept_in_a_record_does_not(tmp_path):
    (tmp_path / "assembler").mkdir()
    (tmp_path / "assembler" / "one.py").write_text(
        '"""One."""\n@dataclass\nclass Row:\n    a: int\n'
        "def f(a, b):\n    c = a\n    g(a=a, b=b, c=c)\n    Row(a=a)\n    raise PoolError(a=a)\n"
    )
    figures, _ = measure(tmp_path)
    assert figures["keywords forwarded, assembler/"] == 5
    assert figures["parameters handed on by keyword, assembler/"] == 2
