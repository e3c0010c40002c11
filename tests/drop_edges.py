"""Leave out every record, wait and synchronisation, one at a time, and judge each mutant.

    .venv/bin/python tests/drop_edges.py [--workers N] [--markdown FILE] [--runs N]

``goldentrace mutate --operator drop_edge --device sim`` judges as the gate does; then random
traffic (``goldentrace explore``) runs over each mutant. Exit code 1 when the gate misses one that
scenarios reach.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.mutation.mutants import made
from tools.mutation.operators import OPERATORS
from tools.mutation.scopes import scope_of
from tools.mutation.source import Tree, read_unit

ROOT = Path(__file__).resolve().parents[1]
# Reached only when a copy fails; tests/assembler/controller/test_hybrid.py makes copies fail.
CONTROLLER = "assembler/controller/hybrid.py HybridCacheController"
ON_FAILURE_ONLY = {
    f"{CONTROLLER}.start_writing without self.write_stream.synchronize()",
    f"{CONTROLLER}.start_loading without self.load_stream.synchronize()",
}
BUILDERS = ("build_kv_only_stack", "build_hybrid_mamba_stack")


def edge_mutants():
    scope = scope_of("native", ROOT)
    tree = Tree([read_unit(ROOT, file) for file in scope.files])
    return made(tree, scope, {"drop_edge": OPERATORS["drop_edge"]})


def fates(workers):
    """Judge the mutants; return what the journal says of each, by id."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.jsonl"
        command = [sys.executable, "-m", "tools.cli", "mutate", "--operator", "drop_edge"]
        options = ["--device", "sim", "--workers", workers, "--journal", str(journal)]
        done = subprocess.run([*command, *options], cwd=ROOT, check=False, stdout=subprocess.PIPE)
        if done.returncode not in (0, 1):
            raise SystemExit(done.returncode)
        lines = journal.read_text(encoding="utf-8").splitlines()[1:]
    return {fate["id"]: fate for fate in map(json.loads, lines)}


def explored(checkout, runs):
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


def explore_all(mutants, runs):
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
            before = {file: (checkout / file).read_text() for file in mutant.texts}
            for file, text in mutant.texts.items():
                (checkout / file).write_text(text, encoding="utf-8")
            found.append(explored(checkout, runs))
            for file, text in before.items():
                (checkout / file).write_text(text, encoding="utf-8")
            print(f"{mutant.label}: {found[-1] or 'none'}", file=sys.stderr, flush=True)
        return found


def first_cause(fate):
    return fate["headline"] if fate["verdict"] in ("killed", "loud") else ""


def table(mutants, judged, violations):
    """Return the fates as a markdown table."""
    rows = ["| edge left out | first cause of the gate | random traffic |", "|---|---|---|"]
    for mutant, violation in zip(mutants, violations, strict=True):
        cause = first_cause(judged[mutant.id]).replace("|", "\\|")
        missed = "reached only when a copy fails" if mutant.key in ON_FAILURE_ONLY else "SURVIVED"
        rows.append(f"| `{mutant.label}` | {cause or missed} | {violation or 'none'} |")
    return "\n".join(rows) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", default="2")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--runs", type=int, default=40, help="random runs a builder; 0 for none")
    options = parser.parse_args()
    mutants = edge_mutants()
    judged = fates(options.workers)
    violations = explore_all(mutants, options.runs) if options.runs else ["" for _ in mutants]
    text = table(mutants, judged, violations)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    print(text)
    survived = [
        m for m in mutants if not first_cause(judged[m.id]) and m.key not in ON_FAILURE_ONLY
    ]
    print(
        f"{len(mutants)} edges: {sum(bool(first_cause(judged[m.id])) for m in mutants)} found by "
        f"the gate, {sum(bool(violation) for violation in violations)} by random traffic"
    )
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
