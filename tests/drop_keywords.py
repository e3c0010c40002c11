"""Leave out every keyword argument of every wiring call, one at a time, and judge each mutant.

    .venv/bin/python tests/drop_keywords.py [--file PART] [--jobs N] [--json FILE]

A mutant is played on the scenarios that reach its line and compared with the goldens by the gate's
own diff; it is *killed* by the first `behaviour` difference. Exit code 1 when one survives that
``docs/keyword_survivors.md`` does not explain, or when the explanation names one that is killed.
"""

import argparse
import json
import multiprocessing
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.keyword_mutants import all_mutants
from tests.mutation import ROOT, Fate, Mutant, campaign

SURVIVORS = ROOT / "docs" / "keyword_survivors.md"


def explained() -> set[str]:
    """Return the survivors that the ledger explains, one key a table row."""
    if not SURVIVORS.exists():
        return set()
    rows = SURVIVORS.read_text(encoding="utf-8").splitlines()
    return {row.split("`")[1] for row in rows if row.startswith("| `")}


def device_of(mutant: Mutant) -> str:
    """Return where a mutant is played: the simulation's own mutants on it, the others eagerly."""
    return "sim" if mutant.file.startswith("assembler/accelerator/sim/") else "cpu"


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
    mutants = [mutant for mutant in all_mutants(ROOT) if options.file in mutant.file]
    fates = campaign(mutants, device_of=device_of, jobs=options.jobs)
    if options.json:
        options.json.write_text(json.dumps([asdict(fate) for fate in fates], indent=1) + "\n")
    return report(fates, time.monotonic() - started)


if __name__ == "__main__":
    raise SystemExit(main())
