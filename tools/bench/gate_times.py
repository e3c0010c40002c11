"""Times of the gate: with nothing kept, with everything kept, and after a change of one builder.

Everything happens on copies, with a cache of its own beside the downloaded releases.
"""

import ast
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from tools.errors import ToolError, one_line
from tools.sides.environments.cache import CACHE_VARIABLE, cache_folder
from tools.sides.targets import NATIVE, find_target


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTime:
    """Seconds of one gate: on the clock, and of the processor in all of its processes."""

    wall: float
    processor: float
    selected: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCopies:
    """Copies on which gates are timed.

    Attributes:
        project: our own code, where the command runs.
        tree: directory that holds the package under guard, in which one builder is changed.
        cache: directory of the kept runs.
    """

    project: Path
    tree: Path
    cache: Path


def time_gates(root: Path, *, target: str, base: str, place: Path, builder: str) -> dict[str, Any]:
    """Time a gate with nothing kept, one with everything kept, and one after a changed builder.

    Args:
        root: our own checkout.
        target: name of the target.
        base: base side of a package; not used for our own code, whose base are the goldens.
        place: directory that holds the package of the base.
        builder: function in which a statement without effect is put.

    Raises:
        ToolError: a gate could not judge, or there is no such function.
    """
    with _copies(root, target=target, place=place) as copies:
        sides: tuple[str, ...] = ()
        if target != NATIVE:
            sides = ("--target", target, "--base", base, "--head", f"dir:{copies.tree}")
        cold = _time_gate(copies, sides)
        warm = _time_gate(copies, sides)
        file = _change_builder(copies.tree / find_target(target).package, builder)
        selected = _time_gate(copies, sides)
        everything = _time_gate(copies, (*sides, "--all"))
    times = {"cold": cold, "warm": warm, "selected": selected, "all": everything}
    return {
        "target": target,
        "changed": f"{file.name}:{builder}",
        "scenarios": cold.total,
        "scenarios_selected": selected.selected,
        **{f"{name}_seconds": one.wall for name, one in times.items()},
        **{f"{name}_processor_seconds": one.processor for name, one in times.items()},
    }


@contextmanager
def _copies(root: Path, *, target: str, place: Path) -> Iterator[GateCopies]:
    with TemporaryDirectory(prefix="goldentrace-bench-") as scratch:
        folder = Path(scratch).resolve()
        cache = folder / "cache"
        cache.mkdir()
        if cache_folder().is_dir():
            (cache / cache_folder().name).symlink_to(cache_folder())
        ignore = shutil.ignore_patterns("__pycache__", ".venv", "*.pyc")
        project = folder / "project"
        if target == NATIVE:
            shutil.copytree(root, project, ignore=ignore, symlinks=True)
            tree = project
        else:
            project = root
            tree = folder / "fork"
            package = find_target(target).package
            source = place / package
            shutil.copytree(source, tree / package, ignore=ignore)
        yield GateCopies(project=project, tree=tree, cache=cache)


def _time_gate(copies: GateCopies, arguments: Sequence[str]) -> GateTime:
    command = [sys.executable, "-P", "-m", "tools.cli", "gate", "--format", "json", *arguments]
    paths = [str(copies.project), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        CACHE_VARIABLE: str(copies.cache),
    }
    before, start = _processor_seconds(), time.perf_counter()
    done = subprocess.run(
        command, cwd=copies.project, env=environment, capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - start
    if done.returncode not in (0, 1):
        got = one_line(done.stderr)
        raise ToolError("gate", "must come to a verdict", expected="exit code 0 or 1", got=got)
    verdict = msgspec.json.decode(done.stdout)
    run, kept = len(verdict["selected"]), len(verdict["kept"])
    return GateTime(
        wall=wall, processor=_processor_seconds() - before, selected=run, total=run + kept
    )


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _change_builder(package: Path, builder: str) -> Path:
    """Put ``pass`` at the start of a function of a package, and return the file."""
    for file in sorted(package.rglob("*.py")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if f"def {builder}(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name == builder:
                lines = text.splitlines(keepends=True)
                first = node.body[0]
                indent = " " * first.col_offset
                lines.insert(first.lineno - 1, f"{indent}pass\n")
                file.write_text("".join(lines), encoding="utf-8")
                return file
    raise ToolError(builder, "must be a function", expected=f"one in {package}", got="none")
