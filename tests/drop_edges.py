"""Leave out every record, wait and synchronisation, one at a time, and judge each mutant.

    .venv/bin/python tests/drop_edges.py [--jobs N] [--markdown FILE] [--runs N]

Mutants are played on the simulated device and judged as the gate does; then random traffic
(`goldentrace explore`) runs over each of them. Exit code 1 when the gate misses one that scenarios
reach.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.edge_mutants import edge_mutants
from tests.mutation import ROOT, Fate, Mutant, campaign

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


BUILDERS = ("build_kv_only_stack", "build_hybrid_mamba_stack")


def explored(checkout: Path, runs: int) -> str:
    """Return the first violation that random traffic finds in a checkout; empty for none."""
    builders = [word for builder in BUILDERS for word in ("--builder", builder)]
    command = ["-m", "tools.cli", "explore", "--runs", str(runs), "--json", *builders]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"explore: must judge every mutant; expected exit 0 or 1, {done.stderr}")
    violations = json.loads(done.stdout)["violations"]
    return str(violations[0]["invariant"]) if violations else ""


def explore_all(mutants: list[Mutant], runs: int) -> list[str]:
    """Explore every mutant in a copy of the checkout; the control explores the untouched copy."""
    with tempfile.TemporaryDirectory() as scratch:
        checkout = Path(scratch)
        for name in ("assembler", "traces", "tools"):
            shutil.copytree(ROOT / name, checkout / name)
        for name in ("pyproject.toml", "CHANGELOG.md"):
            shutil.copy(ROOT / name, checkout / name)
        control = explored(checkout, runs)
        if control:
            raise SystemExit(f"control: the code as it is has no violation; got {control}")
        found = []
        for mutant in mutants:
            place = checkout / mutant.file
            before = place.read_text(encoding="utf-8")
            place.write_text(mutant.source, encoding="utf-8")
            found.append(explored(checkout, runs))
            place.write_text(before, encoding="utf-8")
            print(f"{mutant.label}: {found[-1] or 'none'}", file=sys.stderr, flush=True)
        return found


def table(fates: list[Fate], violations: list[str]) -> str:
    """Return the fates as a markdown table."""
    rows = ["| edge left out | first cause of the gate | random traffic |", "|---|---|---|"]
    for fate, violation in zip(fates, violations, strict=True):
        cause = fate.headline.replace("|", "\\|")
        missed = "reached only when a copy fails" if fate.key in ON_FAILURE_ONLY else "SURVIVED"
        rows.append(f"| `{fate.mutant}` | {cause or missed} | {violation or 'none'} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--runs", type=int, default=40, help="random runs a builder; 0 for none")
    options = parser.parse_args()
    mutants = list(edge_mutants(ROOT))
    fates = campaign(mutants, device_of=lambda _: "sim", jobs=options.jobs)
    violations = explore_all(mutants, options.runs) if options.runs else ["" for _ in mutants]
    if options.markdown:
        options.markdown.write_text(table(fates, violations), encoding="utf-8")
    print(table(fates, violations))
    survived = [fate for fate in fates if not fate.killed_by and fate.key not in ON_FAILURE_ONLY]
    print(
        f"{len(fates)} edges: {sum(bool(fate.killed_by) for fate in fates)} found by the gate, "
        f"{sum(bool(violation) for violation in violations)} by random traffic"
    )
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
