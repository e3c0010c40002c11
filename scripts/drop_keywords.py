"""Leave out every keyword argument of every wiring call, one at a time, and judge each mutant.

    .venv/bin/python scripts/drop_keywords.py [--file PART] [--workers N]

``goldentrace mutate --operator drop_keyword``, with ``docs/keyword_survivors.md`` for a ledger:
exit code 1 when one survives that it does not explain, or when it explains one that is killed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SURVIVORS = ROOT / "docs" / "keyword_survivors.md"
OPEN = ("survived", "unreached")


def explained():
    """Return the survivors that the ledger explains, one key a table row."""
    rows = SURVIVORS.read_text(encoding="utf-8").splitlines()
    return {row.split("`")[1] for row in rows if row.startswith("| `")}


def mutant_results(*options):
    """Run the campaign and return what its journal says of every mutant."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.jsonl"
        command = [sys.executable, "-m", "tools.cli", "mutate", "--operator", "drop_keyword"]
        done = subprocess.run([*command, "--journal", journal, *options], cwd=ROOT, check=False)
        if done.returncode not in (0, 1):
            raise SystemExit(done.returncode)
        lines = journal.read_text(encoding="utf-8").splitlines()[1:]
    return [json.loads(line) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", default="", help="only mutants of files whose path has this part")
    parser.add_argument("--workers", default="2")
    options = parser.parse_args()
    found = mutant_results("--file", options.file, "--workers", options.workers)
    survivors = {fate["key"] for fate in found if fate["verdict"] in OPEN}
    unknown = sorted(survivors - explained())
    stale = sorted({fate["key"] for fate in found} & explained() - survivors)
    for key in unknown:
        print(f"SURVIVED {key}")
    for key in stale:
        print(f"EXPLAINED BUT KILLED {key}")
    return 1 if unknown or stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
