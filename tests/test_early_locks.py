"""A lock that is given up early, or not taken at all: the gate fails for each, one at a time.

The places are found in the syntax of ``assembler/cache``: every count that a lock adds to, and
every copy that keeps a lock until it is seen finished.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from traces.targets.native.scenarios import registry

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "assembler" / "cache"
# The component whose scenarios have the count; any has the locks of copies.
BUILDERS = {
    "window_lock_ref": "build_hybrid_swa_stack",
    "state_lock_ref": "build_hybrid_mamba_stack",
}


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def counts():
    """Yield file, count and lines of every count of locks that one place raises."""
    for file in sorted(CACHE.glob("*.py")):
        found = {}
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AugAssign) and ast.unparse(node.target).endswith("lock_ref"):
                found.setdefault(node.target.attr, []).append(node)
        for count, nodes in found.items():
            assert {type(node.op) for node in nodes} == {ast.Add, ast.Sub}
            yield file, count, nodes


def copies():
    """Yield file, attribute, the statement that keeps a lock in it, and that which gives it up."""
    for file in sorted(CACHE.glob("*.py")):
        found = functions(ast.parse(file.read_text(encoding="utf-8")))
        for keeper in found:
            for kept in ast.walk(keeper):
                if attribute := kept_lock(kept):
                    for other in found:
                        for given in given_up(other, attribute):
                            yield file, attribute, kept, given


def kept_lock(node):
    """Return the attribute of ``self`` that a statement keeps a lock in."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        holder, names = node.targets[0].value, {ast.unparse(part) for part in ast.walk(node.value)}
        if isinstance(holder, ast.Attribute) and "lock" in names:
            return holder.attr
    return None


def given_up(function, attribute):
    """Return the calls that give up what a function takes out when a copy was seen finished."""
    text = ast.unparse(function)
    takes = "take_written(" in text or "take_loaded(" in text
    if f"self.{attribute}.pop(" not in text or not takes:
        return []
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Expr) and ast.unparse(node).startswith("self.dec_lock_ref(")
    ]


def without(lines, node, instead):
    """Replace a statement by another of the same depth."""
    indent = " " * node.col_offset
    lines[node.lineno - 1 : node.end_lineno] = [indent + instead] + [""] * (
        node.end_lineno - node.lineno
    )


def mutants():
    for file, count, nodes in counts():
        lines = file.read_text(encoding="utf-8").splitlines()
        for node in nodes:
            without(lines, node, "pass")
        yield pytest.param(file.name, lines, BUILDERS.get(count), id=count)
    for file, attribute, kept, given in copies():
        lines = file.read_text(encoding="utf-8").splitlines()
        without(lines, given, "pass")
        early = "self.dec_lock_ref(node, lock.to_dec_params())"
        without(lines, kept, f"{ast.unparse(kept)}; {early}")
        yield pytest.param(file.name, lines, None, id=attribute)


MUTANTS = list(mutants())


def gate(tree, builder):
    """Run the gate of a tree on the smallest scenario of a builder; return its exit code."""
    name = next(
        name
        for name, scenario in registry().items()
        if scenario.has_traffic
        and scenario.builder == (builder or "build_kv_only_stack")
        and scenario.page_size == 1
        and scenario.write_policy != "write_back"
    )
    command = [sys.executable, "-m", "tools.cli", "gate", name]
    found = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    return found.returncode, found.stdout + found.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    tree = tmp_path_factory.mktemp("locks") / "checkout"
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, tree], check=True)
    return tree


def test_places_are_found():
    assert [mutant.id for mutant in MUTANTS] == [
        "state_lock_ref",
        "lock_ref",
        "window_lock_ref",
        "ongoing_write_through",
        "ongoing_load_back",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lines", "builder"), MUTANTS)
def test_gate_fails_without_a_lock(clone, name, lines, builder):
    file = clone / "assembler" / "cache" / name
    text = file.read_text(encoding="utf-8")
    assert text == (CACHE / name).read_text(encoding="utf-8"), "the tree must be committed"
    try:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        code, output = gate(clone, builder)
    finally:
        file.write_text(text, encoding="utf-8")

    assert code == 1, output


@pytest.mark.slow
def test_gate_passes_with_every_lock(clone):
    """Control of the test above."""
    code, output = gate(clone, None)

    assert code == 0, output
