"""Leave out every record, wait and synchronisation, one at a time, and judge each mutant.

    .venv/bin/python tests/drop_edges.py [--jobs N] [--markdown FILE]

Mutants are played on the simulated device, so that the first cause may be the lost edge of the
trace or the race behind it. Exit code 1 when one survives that is not in ``ON_FAILURE_ONLY``.
"""

import argparse
import multiprocessing
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.edge_mutants import edge_mutants
from tests.mutation import ROOT, Fate, campaign

# Reached only when a copy fails; tests/assembler/controller/test_hybrid.py makes copies fail.
ON_FAILURE_ONLY = {
    (
        "assembler/controller/hybrid.py HybridCacheController.start_writing "
        "self.write_stream.synchronize()"
    ),
    (
        "assembler/controller/hybrid.py HybridCacheController.start_loading "
        "self.load_stream.synchronize()"
    ),
}


def table(fates: list[Fate]) -> str:
    """Return the fates as a markdown table."""
    rows = ["| edge left out | first cause of the gate |", "|---|---|"]
    for fate in fates:
        cause = fate.headline.replace("|", "\\|")
        found = cause or "none: " + (
            "reached only when a copy fails" if fate.key in ON_FAILURE_ONLY else "SURVIVED"
        )
        rows.append(f"| `{fate.mutant}` | {found} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--markdown", type=Path, help="write the table here")
    options = parser.parse_args()
    mutants = list(edge_mutants(ROOT))
    fates = campaign(mutants, device_of=lambda _: "sim", jobs=options.jobs)
    if options.markdown:
        options.markdown.write_text(table(fates), encoding="utf-8")
    print(table(fates))
    survived = [fate for fate in fates if not fate.killed_by and fate.key not in ON_FAILURE_ONLY]
    print(f"{len(fates)} edges: {sum(bool(f.killed_by) for f in fates)} found by the gate")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
