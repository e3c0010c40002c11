"""The list of modules is generated, and every step of the told path is a function that exists."""

import ast
import re

import pytest

from scripts.structure_page import MARKER, PAGE, ROOT, render

STEP = re.compile(r"^(\d+)\. `([\w.]+)` in `([\w/]+\.py)`", re.MULTILINE)


def functions_of(file):
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        methods = (node for node in cls.body if isinstance(node, ast.FunctionDef))
        found |= {f"{cls.name}.{method.name}" for method in methods}
    return found


def test_committed_list_of_modules_is_what_the_docstrings_give():
    text = PAGE.read_text("utf-8")
    assert text == render(text, ROOT)


def test_path_of_a_scenario_has_at_most_ten_steps_each_a_function_to_jump_to():
    steps = STEP.findall(PAGE.read_text("utf-8"))
    assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))
    assert 1 <= len(steps) <= 10
    assert [(name, file) for _, name, file in steps if name not in functions_of(file)] == []


def test_module_is_listed_with_its_first_line(tmp_path):
    for name in ("assembler", "traces", "tools"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f'"""The {name}."""\n')
    (tmp_path / "tools" / "git.py").write_text('"""Run git.\n\nMore."""\n')
    assert "| `git.py` | Run git. |\n" in render(f"Head.\n{MARKER}old\n", tmp_path)


def test_page_without_the_marker_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^docs/structure.md: marker; expected .*, got none$"):
        render("Head.\n", tmp_path)
