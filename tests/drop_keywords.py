"""Leave out every keyword argument of every wiring call, one at a time, and judge each mutant.

    .venv/bin/python tests/drop_keywords.py [--file PART] [--jobs N] [--json FILE]

A mutant is played in a process of its own on the scenarios that reach its line and compared with
the goldens by the gate's own diff; it is *killed* by the first `behaviour` difference. Exit code 1
when a mutant survives that ``docs/keyword_survivors.md`` does not explain, or when the explanation
names one that is killed. Two controls run first: the code as it is must survive everywhere.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.keyword_mutants import Mutant, all_mutants  # noqa: E402
from traces.canonical import parse  # noqa: E402
from traces.diff import compare_sides  # noqa: E402
from traces.model import Recording  # noqa: E402
from traces.scenarios import registry  # noqa: E402

GOLDENS = ROOT / "traces" / "golden" / "native"
SURVIVORS = ROOT / "docs" / "keyword_survivors.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a mutant.

    Attributes:
        mutant: its label.
        key: the label without the line, as the survivors' ledger names it.
        killed_by: kind of the first cause; empty for a survivor.
        named: whether the first cause names the dropped keyword.
        located: whether the first cause points at the mutated file and line.
        scenarios: how many scenarios reach the line.
    """

    mutant: str
    key: str
    killed_by: str
    named: bool
    located: bool
    scenarios: int


class _Overlay(SourceFileLoader):
    """Loads one module from another text; its path, and so every location, stays the same."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds the mutated module before anything else does."""

    def __init__(self, mutant: Mutant) -> None:
        dotted = mutant.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        self._name, self._text = dotted, mutant.source

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name == self._name else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Overlay(name, spec.origin, self._text)
        return spec


def _golden(name: str) -> Recording:
    text = (GOLDENS / f"{name}.json").read_text(encoding="utf-8")
    return Recording(trace=parse(text, subject=name), sites=None)


def _first_cause(names: Iterable[str]):
    """Return the first behaviour cause over some scenarios, in this process's assembler."""
    from traces.play import play

    for name in names:
        played = play(registry()[name], device="cpu")
        causes = compare_sides({name: _golden(name)}, {name: played})
        if causes and causes[0].level == "behaviour":
            return causes[0]
    return None


def reached(name: str) -> tuple[str, set[tuple[str, int]]]:
    """Return every line of ``assembler/`` that a scenario executes."""
    lines: set[tuple[str, int]] = set()
    prefix = str(ROOT / "assembler") + "/"

    def watch(frame, event, _):
        file = frame.f_code.co_filename
        if not file.startswith(prefix):
            return None
        lines.add((file.removeprefix(str(ROOT) + "/"), frame.f_lineno))
        return watch

    import traces.targets.native_stage  # noqa: F401
    from traces.play import play_unrecorded

    sys.settrace(watch)
    try:
        play_unrecorded(registry()[name], device="cpu")
    finally:
        sys.settrace(None)
    return name, lines


def control(name: str) -> str:
    """Return what the untouched code is killed by; empty as it should be."""
    cause = _first_cause([name])
    return "" if cause is None else f"{name}: {cause.headline()}"


def judge(mutant: Mutant, names: list[str]) -> Fate:
    """Play a mutant on the scenarios that reach it."""
    sys.meta_path.insert(0, _Finder(mutant))
    key = f"{mutant.file} {mutant.function} {mutant.callee} {mutant.keyword}"
    try:
        cause = _first_cause(names)
    except Exception as error:  # noqa: BLE001 - the mutant cannot even be imported
        return Fate(
            mutant=mutant.label,
            key=key,
            killed_by=f"{type(error).__name__} before the first trace",
            named=mutant.keyword in str(error),
            located=False,
            scenarios=len(names),
        )
    place = cause.location if cause is not None else None
    return Fate(
        mutant=mutant.label,
        key=key,
        killed_by="" if cause is None else str(cause.kind),
        named=cause is not None and cause.parameter == mutant.keyword,
        located=place is not None and (place.file, place.line) == (mutant.file, mutant.line),
        scenarios=len(names),
    )


def explained() -> set[str]:
    """Return the survivors that the ledger explains, one key a table row."""
    if not SURVIVORS.exists():
        return set()
    rows = SURVIVORS.read_text(encoding="utf-8").splitlines()
    return {row.split("`")[1] for row in rows if row.startswith("| `")}


def campaign(part: str, jobs: int) -> list[Fate]:
    """Judge every mutant whose file contains ``part``; raise unless the controls hold."""
    mutants = [mutant for mutant in all_mutants(ROOT) if part in mutant.file]
    names = list(registry())
    torch.set_num_threads(1)
    # Forked children share torch and the trace core; each imports an assembler of its own.
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        broken = [line for line in pool.imap(control, names) if line]
        if broken:
            raise SystemExit("control: the code as it is must equal the goldens; " + broken[0])
        lines = dict(pool.imap(reached, names))
        tasks = [
            (mutant, [name for name in names if (mutant.file, mutant.line) in lines[name]])
            for mutant in mutants
        ]
        return list(pool.imap(_judge_task, tasks))


def _judge_task(task: tuple[Mutant, list[str]]) -> Fate:
    return judge(*task)


def report(fates: list[Fate], seconds: float) -> int:
    """Print the verdict; return the exit code."""
    killed = [fate for fate in fates if fate.killed_by]
    survivors = [fate for fate in fates if not fate.killed_by]
    known = explained()
    unknown = [fate for fate in survivors if fate.key not in known]
    stale = known & {fate.key for fate in killed}
    for fate in unknown:
        print(f"SURVIVED {fate.mutant} ({fate.scenarios} scenarios reach it)")
    for key in sorted(stale):
        print(f"EXPLAINED BUT KILLED {key}")
    print(
        f"{len(fates)} mutants: {len(killed)} killed, {len(survivors)} survived, "
        f"{len(survivors) - len(unknown)} of them explained; first cause names the keyword in "
        f"{sum(fate.named for fate in killed)} and its line in "
        f"{sum(fate.located for fate in killed)} of {len(killed)} kills; {seconds:.0f} s"
    )
    return 1 if unknown or stale else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", default="", help="only mutants of files whose path has this part")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--json", type=Path, help="write every fate here")
    options = parser.parse_args()
    started = time.monotonic()
    fates = campaign(options.file, options.jobs)
    if options.json:
        options.json.write_text(json.dumps([asdict(fate) for fate in fates], indent=1) + "\n")
    return report(fates, time.monotonic() - started)


if __name__ == "__main__":
    raise SystemExit(main())
