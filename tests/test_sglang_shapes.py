"""Faults of shapes that public reports tell of, put into a release by hand.

The edits are in sglang_shapes.toml. Each must be found, and its first cause must lie in the
function that has it. One shape of our own code, a lock given up where the copy is launched, is in
test_early_locks. Nothing here names a scenario: the gate runs up to eighty of those whose recorded
lines reach the edit. Needs the environment of a release, which is downloaded once (`make sglang`),
so these tests run only when they are asked for by GOLDENTRACE_SGLANG=1.
"""

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.releases import NEEDS_RELEASES, copy_release, gate, some_reaching

RELEASE = "0.5.23"

pytestmark = NEEDS_RELEASES


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A text of one function of a release that another one replaces.

    Args:
        file: of the release, below sglang/srt.
        function: qualified name of the function.
        right: text of the function, found once in it.
        wrong: what stands there instead.
        report: the public issue or change that tells of a fault of this shape.
        begins_with: another edit without which the fault would raise; its place is no fault.
    """

    file: str
    function: str
    right: str
    wrong: str
    report: str = ""
    begins_with: "Shape | None" = None


def shape_of(fields: dict[str, Any]) -> Shape:
    """Return the shape that a table of the file has."""
    first = fields.get("begins_with")
    return Shape(**{**fields, "begins_with": None if first is None else shape_of(first)})


SHAPES = {
    name: shape_of(fields)
    for name, fields in tomllib.loads(
        Path(__file__).with_name("sglang_shapes.toml").read_text("utf-8")
    ).items()
}


def span_of(text: str, function: str) -> tuple[int, int]:
    """Return the lines of a function, counted from 1: the first, and the one behind the last."""
    body = ast.parse(text).body
    found: ast.stmt | None = None
    for name in function.split("."):
        [found] = [one for one in body if getattr(one, "name", None) == name]
        assert isinstance(found, ast.ClassDef | ast.FunctionDef)
        body = found.body
    assert found is not None
    assert found.end_lineno is not None
    return found.lineno, found.end_lineno + 1


def put_in(shape: Shape, tree: Path) -> None:
    """Make the edits of a shape; every text must be found once in its function."""
    if shape.begins_with is not None:
        put_in(shape.begins_with, tree)
    path = tree / "sglang" / "srt" / shape.file
    text = path.read_text("utf-8")
    first, behind = span_of(text, shape.function)
    lines = text.splitlines(keepends=True)
    inside = "".join(lines[first - 1 : behind - 1])
    assert inside.count(shape.right) == 1
    path.unlink()
    before, after = "".join(lines[: first - 1]), "".join(lines[behind - 1 :])
    path.write_text(before + inside.replace(shape.right, shape.wrong) + after, "utf-8")


def is_in_function(location: dict[str, object] | None, shape: Shape, tree: Path) -> bool:
    """Return whether a cause lies in the function that has the fault."""
    if location is None or location["file"] != f"sglang/srt/{shape.file}":
        return False
    first, behind = span_of((tree / str(location["file"])).read_text("utf-8"), shape.function)
    return first <= int(str(location["line"])) < behind


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_fault_is_found_and_its_function_is_named_first(capsys, tmp_path, shape):
    tree = copy_release(RELEASE, tmp_path)
    put_in(shape, tree)

    names = some_reaching(f"dir:{tree}", most=80)
    code, verdict = gate(capsys, f"pypi:{RELEASE}", f"dir:{tree}", *names)

    assert code == 1
    assert is_in_function(verdict["causes"][0]["location"], shape, tree)
