"""Leave out every record, wait and synchronisation, one at a time: `python scripts/drop_edges.py`.

`goldentrace mutate` finds the first cause of each, on the eager device, where a lost edge raises
nothing; `goldentrace explore` runs random traffic on the simulated one, in a clone of HEAD. Exit
code 1 when a first cause is not the lost edge, or when random traffic does not find an edge that no
scenario reaches.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.mutation.generator import generate_mutants
from tools.mutation.mutant import Mutant
from tools.mutation.operators import OPERATORS
from tools.mutation.scopes import scope_of
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import read_unit

ROOT = Path(__file__).resolve().parents[1]
EXPLORED = ("build_kv_only_stack", "build_hybrid_mamba_stack")
PAGE = """\
# Order edges: the verdict when one is gone

`scripts/drop_edges.py --runs {runs} --markdown docs/order_edges.md` wrote this page. It leaves out
every record, wait and synchronisation of controller, transfer, pools and cache, one at a time. The
first cause is that of `goldentrace mutate --operator drop_edge`, the last column that of
`goldentrace explore --runs {runs}` on two builders. Of {edges} edges {caused} are the first cause,
and {explored} are found by random traffic. No scenario has a failing copy: edges that matter only
then are found by random traffic alone.

| edge left out | first cause | random traffic |
|---|---|---|
"""


def goldentrace(root: Path, *arguments: str) -> str:
    """Run a command on the code of a checkout and return what it prints."""
    command = [sys.executable, "-m", "tools.cli", *arguments]
    return subprocess.run(command, cwd=root, check=False, stdout=subprocess.PIPE, text=True).stdout


def first_causes(scratch: Path) -> dict[str, tuple[str, str]]:
    """Return verdict and first cause of every mutant, by id."""
    journal = scratch / "journal.jsonl"
    goldentrace(ROOT, "mutate", "--operator", "drop_edge", "--journal", str(journal))
    results = map(json.loads, journal.read_text(encoding="utf-8").splitlines()[1:])
    return {one["id"]: (one["verdict"], one["headline"]) for one in results}


def violation(clone: Path, mutant: Mutant, *, runs: int) -> str:
    """Return the invariant that random traffic on a mutant violates; empty for none."""
    subprocess.run(["git", "-C", clone, "checkout", "--quiet", "."], check=True)
    for file, text in mutant.texts.items():
        (clone / file).write_text(text, encoding="utf-8")
    builders = [word for builder in EXPLORED for word in ("--builder", builder)]
    options = ("--runs", str(runs), "--json", "--out", str(clone.parent / "replays"))
    found = json.loads(goldentrace(clone, "explore", *options, *builders))["violations"]
    return str(found[0]["invariant"]) if found else ""


def main() -> int:
    """Print the page; return 1 when an edge is not found as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="random runs a builder")
    parser.add_argument("--markdown", type=Path, help="write the page here")
    options = parser.parse_args()
    scope = scope_of("native", ROOT)
    tree = SourceTree([read_unit(ROOT, file) for file in scope.files])
    rows, wrong = [], []
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "checkout"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        causes = first_causes(Path(scratch))
        for mutant in generate_mutants(tree, scope, {"drop_edge": OPERATORS["drop_edge"]}):
            verdict, cause = causes[mutant.id]
            found = violation(clone, mutant, runs=options.runs)
            rows.append((mutant.label, cause, found))
            is_lost_edge = cause.startswith("order_edge_removed")
            if not (is_lost_edge if verdict == "killed" else verdict == "unreached" and found):
                wrong.append(f"{mutant.label}: {verdict}; {cause or 'no cause'}; {found or 'none'}")
    text = PAGE.format(
        runs=options.runs,
        edges=len(rows),
        caused=sum(cause.startswith("order_edge_removed") for _, cause, _ in rows),
        explored=sum(bool(found) for _, _, found in rows),
    )
    for label, cause, found in rows:
        cells = (f"`{label}`", cause or "none: no scenario reaches it", found or "none")
        text += f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    print("\n".join([text, *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
