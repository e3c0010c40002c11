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
# Scenarios whose cache stores and fetches pages have these.
OF_STORAGE = {"host_lock_ref", "ongoing_backup", "ongoing_prefetch"}
# How a function learns that copies are finished, and how it gives their locks up.
ENDS = ("take_written(", "take_loaded(", "finished_backups(", "self._result(")
UNLOCKS = ("self.dec_lock_ref(", "self._tree.unlock_host(")


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
    """Yield file, attribute, the statement that keeps a locked node in it, what undoes its lock.

    The last is a statement for the function that keeps it; behind it comes the statement that gives
    the lock up.
    """
    for file in sorted(CACHE.glob("*.py")):
        found = functions(ast.parse(file.read_text(encoding="utf-8")))
        for keeper in found:
            for kept in ast.walk(keeper):
                if (attribute := kept_in(kept)) and (undo := undone(keeper)):
                    for other in found:
                        for given in given_up(other, attribute):
                            yield file, attribute, kept, undo, given


def kept_in(node):
    """Return the attribute of ``self`` that a statement keeps something in, by a key."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        holder = node.targets[0].value
        if isinstance(holder, ast.Attribute) and ast.unparse(holder.value) == "self":
            return holder.attr
    return None


def undone(function):
    """Return the statement that undoes the lock that a function takes; None without one."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            name, *given = (ast.unparse(part) for part in (node.func, *node.args))
            if name == "self._lock_copied":
                return f"self.dec_lock_ref({given[0]}, lock.to_dec_params())"
            if name == "self._tree.lock_host":
                return f"self._tree.unlock_host({given[0]})"
    return None


def given_up(function, attribute):
    """Return the calls that give up what a function takes out when a copy was seen finished."""
    text = ast.unparse(function)
    if f"self.{attribute}.pop(" not in text or not any(end in text for end in ENDS):
        return []
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Expr) and ast.unparse(node).startswith(UNLOCKS)
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
        yield pytest.param(file.name, lines, count, id=count)
    for file, attribute, kept, undo, given in copies():
        lines = file.read_text(encoding="utf-8").splitlines()
        without(lines, given, "pass")
        without(lines, kept, f"{ast.unparse(kept)}; {undo}")
        yield pytest.param(file.name, lines, attribute, id=attribute)


MUTANTS = list(mutants())


def scenario_of(lock):
    """Return the name of the smallest scenario whose nodes have a lock."""
    builder = BUILDERS.get(lock, "build_kv_only_stack")
    named = [(name, one) for name, one in registry().items() if one.builder == builder]
    if lock in OF_STORAGE:
        return next(name for name, one in named if getattr(one, "tier", "") == "tree")
    return next(
        name
        for name, one in named
        if one.has_traffic and one.page_size == 1 and one.write_policy != "write_back"
    )


def gate(tree, lock):
    """Run the gate of a tree on the smallest scenario that has a lock; return its exit code."""
    name = scenario_of(lock)
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
        "host_lock_ref",
        "window_lock_ref",
        "ongoing_write_through",
        "ongoing_load_back",
        "ongoing_backup",
        "ongoing_prefetch",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lines", "lock"), MUTANTS)
def test_gate_fails_without_a_lock(clone, name, lines, lock):
    file = clone / "assembler" / "cache" / name
    text = file.read_text(encoding="utf-8")
    assert text == (CACHE / name).read_text(encoding="utf-8"), "the tree must be committed"
    try:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        code, output = gate(clone, lock)
    finally:
        file.write_text(text, encoding="utf-8")

    assert code == 1, output


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["lock_ref", "host_lock_ref"])
def test_gate_passes_with_every_lock(clone, lock):
    """Control of the test above."""
    code, output = gate(clone, lock)

    assert code == 0, output
