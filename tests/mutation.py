"""Judging mutants of ``assembler/``: each in a process of its own, by the gate's own diff.

Forked children share torch and the trace core with the parent, which never imports the assembler;
each child imports an assembler of its own, with one module read from another text.
"""

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType

import torch

from traces.canonical import parse
from traces.diff import compare_sides
from traces.model import Recording
from traces.scenarios import registry

ROOT = Path(__file__).resolve().parents[1]
GOLDENS = ROOT / "traces" / "golden" / "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A source file with one place changed.

    Attributes:
        file: path under the repository root, posix.
        line: first line of what was changed.
        key: names the mutant without its line, for a ledger.
        dropped: what is missing: a keyword, or the text of a statement.
        source: text of the whole mutated file.
    """

    file: str
    line: int
    key: str
    dropped: str
    source: str

    @property
    def label(self) -> str:
        return f"{self.file}:{self.line} {self.key.removeprefix(self.file).strip()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a mutant.

    Attributes:
        mutant: its label.
        key: the mutant's key.
        killed_by: kind of the first cause; empty for a survivor.
        named: whether the first cause names what was dropped.
        located: whether the first cause points at the mutated file and line.
        headline: the first cause in a line.
        scenarios: how many scenarios reach the line.
    """

    mutant: str
    key: str
    killed_by: str
    named: bool
    located: bool
    headline: str
    scenarios: int


class _Overlay(SourceFileLoader):
    """Loads one module from another text; its path, and so every location, stays the same."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds the mutated module before anything else does."""

    def __init__(self, mutant: Mutant) -> None:
        dotted = mutant.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        self._name, self._text = dotted, mutant.source

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name == self._name else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Overlay(name, spec.origin, self._text)
        return spec


def first_cause(names: Iterable[str], *, device: str):
    """Return the first behaviour cause over some scenarios, in this process's assembler."""
    from traces.play import play

    for name in names:
        golden = parse((GOLDENS / f"{name}.json").read_text(encoding="utf-8"), subject=name)
        base = {name: Recording(trace=golden, sites=None)}
        causes = compare_sides(base, {name: play(registry()[name], device=device)})
        if causes and causes[0].level == "behaviour":
            return causes[0]
    return None


def reached(task: tuple[str, str]) -> tuple[tuple[str, str], set[tuple[str, int]]]:
    """Return every line of ``assembler/`` that a scenario executes on a device."""
    import traces.targets.native_stage  # noqa: F401
    from traces.play import play_unrecorded

    name, device = task
    lines: set[tuple[str, int]] = set()
    prefix = str(ROOT / "assembler") + "/"

    def watch(frame, event, _):
        file = frame.f_code.co_filename
        if not file.startswith(prefix):
            return None
        lines.add((file.removeprefix(str(ROOT) + "/"), frame.f_lineno))
        return watch

    sys.settrace(watch)
    try:
        play_unrecorded(registry()[name], device=device)
    finally:
        sys.settrace(None)
    return task, lines


def judge(mutant: Mutant, names: Sequence[str], *, device: str) -> Fate:
    """Play a mutant on the scenarios that reach it."""
    sys.meta_path.insert(0, Finder(mutant))
    try:
        cause = first_cause(names, device=device)
    except Exception as error:  # noqa: BLE001 - the mutant cannot even be imported
        return Fate(
            mutant=mutant.label,
            key=mutant.key,
            killed_by=f"{type(error).__name__} before the first trace",
            named=mutant.dropped in str(error),
            located=False,
            headline=str(error),
            scenarios=len(names),
        )
    place = cause.location if cause is not None else None
    return Fate(
        mutant=mutant.label,
        key=mutant.key,
        killed_by="" if cause is None else str(cause.kind),
        named=cause is not None and cause.parameter == mutant.dropped,
        located=place is not None and (place.file, place.line) == (mutant.file, mutant.line),
        headline="" if cause is None else cause.headline(),
        scenarios=len(names),
    )


def _control(task: tuple[str, str]) -> str:
    name, device = task
    cause = first_cause([name], device=device)
    return "" if cause is None else f"{name}: {cause.headline()}"


def _judge_task(task: tuple[Mutant, list[str], str]) -> Fate:
    mutant, names, device = task
    return judge(mutant, names, device=device)


def campaign(
    mutants: Sequence[Mutant], *, device_of: Callable[[Mutant], str], jobs: int
) -> list[Fate]:
    """Judge every mutant on every scenario that reaches it on its device; the control runs first.

    Raises:
        SystemExit: the code as it is does not equal the goldens.
    """
    names = list(registry())
    devices = sorted({device_of(mutant) for mutant in mutants})
    plays = [(name, device) for device in devices for name in names]
    torch.set_num_threads(1)
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        broken = [line for line in pool.imap(_control, plays) if line]
        if broken:
            raise SystemExit("control: the code as it is must equal the goldens; " + broken[0])
        lines = dict(pool.imap(reached, plays))
        tasks = [
            (
                mutant,
                [n for n in names if (mutant.file, mutant.line) in lines[n, device_of(mutant)]],
                device_of(mutant),
            )
            for mutant in mutants
        ]
        return list(pool.imap(_judge_task, tasks))
