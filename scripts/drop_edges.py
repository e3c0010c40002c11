"""Leave out every record, wait and synchronisation, one at a time, and ask the gate about each.

    .venv/bin/python scripts/drop_edges.py [--runs N] [--markdown FILE]

Every mutant stands in a clone of HEAD, where three questions are asked on the simulated device:
``goldentrace gate`` (one scenario of every builder, against the goldens), ``goldentrace gate
--base HEAD`` (the same scenarios, both sides played, so that the lost line is known) and
``goldentrace explore`` (random traffic). Exit code 1 when the first cause of either gate is not the
lost edge, or when random traffic is not stopped by one that no scenario reaches.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.mutation.generator import generate_mutants
from tools.mutation.operators import OPERATORS
from tools.mutation.scopes import scope_of
from tools.mutation.source.source_tree import SourceTree, read_unit
from traces.targets.native.scenarios import registry

ROOT = Path(__file__).resolve().parents[1]
LOST_EDGE = "order_edge_removed"
# Reached only when a copy fails, which no scenario does and random traffic does.
CONTROLLER = "assembler/controller/hybrid.py HybridCacheController"
ON_FAILURE_ONLY = (
    f"{CONTROLLER}.start_writing without self.write_stream.synchronize()",
    f"{CONTROLLER}.start_loading without self.load_stream.synchronize()",
)
EXPLORED = ("build_kv_only_stack", "build_hybrid_mamba_stack")
INTRODUCTION = """\
# Order edges: what the net says when one is gone

`scripts/drop_edges.py --runs {runs} --markdown docs/order_edges.md` wrote this page. It leaves out
every record, wait and synchronisation of controller, transfer, pools and cache, one at a time, in a
clone of HEAD, and asks on the simulated device:

- `goldentrace gate` with {scenarios} scenarios, one of every builder. The location is that of the
  nearest edge the head still has, because a golden holds no lines;
- `goldentrace gate --base HEAD` with the same scenarios. Both sides are played, so the location is
  the line of the lost edge itself;
- `goldentrace explore --runs {runs}` on two builders.

The control, the code as it is, has neither a cause nor a violation. Of {edges} edges {gate} are the
first cause of the gate, {exact} that of the gate with a base, and {explored} are found by random
traffic. No scenario has a failing copy: what matters only then is found by random traffic alone.

"""
HEADER = """\
| edge left out | first cause of the gate | location with `--base HEAD` | random traffic |
|---|---|---|---|
"""


@dataclass(frozen=True, kw_only=True)
class ReportedCause:
    """The first cause of a gate; ``text`` alone when it could not judge."""

    kind: str
    text: str
    location: str


@dataclass(frozen=True, kw_only=True)
class EdgeRow:
    edge: str
    needs_failure: bool
    gate: ReportedCause | None
    exact: ReportedCause | None
    violation: str

    @property
    def complaints(self):
        """Return what is wrong with what was said, one line each."""
        if self.needs_failure:
            if self.gate or self.exact:
                got = (self.gate or self.exact).text
                yield f"{self.edge}: must be out of reach; expected no cause, got {got}"
            if not self.violation:
                rule = "must be found by random traffic; expected a violation, got none"
                yield f"{self.edge}: {rule}"
            return
        for question, cause in (("gate", self.gate), ("gate --base HEAD", self.exact)):
            if cause is None or cause.kind != LOST_EDGE:
                got = cause.text if cause else "nothing"
                rule = f"must be the first cause of {question}; expected {LOST_EDGE}, got {got}"
                yield f"{self.edge}: {rule}"

    @property
    def cells(self):
        unseen = "none: no scenario has a failing copy" if self.needs_failure else "SURVIVED"
        yield f"`{self.edge}`"
        yield f"{self.gate.text} ({self.gate.location})" if self.gate else unseen
        yield self.exact.location if self.exact else "none"
        yield self.violation or "none"


@dataclass(frozen=True)
class Clone:
    """A clone of HEAD, in which one file at a time is another one."""

    root: Path

    def goldentrace(self, *arguments):
        """Run a verb; return its exit code and what it printed as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "tools.cli", *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError:
            raise SystemExit(
                f"{arguments[0]}: must answer; expected JSON, got {done.stderr}"
            ) from None

    def first_cause(self, *sides):
        """Return the first cause of the gate; None when it passes."""
        names = first_scenarios()
        code, verdict = self.goldentrace(
            "gate", *sides, "--device", "sim", "--format", "json", *names
        )
        if code == 0:
            return None
        if not verdict["causes"]:
            return ReportedCause(kind="", text="; ".join(verdict["problems"]), location="nowhere")
        first = verdict["causes"][0]
        place = first["location"]
        return ReportedCause(
            kind=first["kind"],
            text=f"{first['kind']}: {first['where']}",
            location=f"{place['file']}:{place['line']}" if place else "nowhere",
        )

    def violation(self, *, runs):
        """Return the invariant that random traffic finds violated; empty for none."""
        builders = [word for builder in EXPLORED for word in ("--builder", builder)]
        kept = str(self.root.parent / "replays")
        options = ("--runs", str(runs), "--json", "--out", kept)
        _, found = self.goldentrace("explore", *options, *builders)
        return found["violations"][0]["invariant"] if found["violations"] else ""

    def judged(self, edge, *, needs_failure, runs):
        return EdgeRow(
            edge=edge,
            needs_failure=needs_failure,
            gate=self.first_cause(),
            exact=self.first_cause("--base", "HEAD"),
            violation=self.violation(runs=runs),
        )

    def judged_mutant(self, mutant, *, runs):
        before = {file: (self.root / file).read_text("utf-8") for file in mutant.texts}
        for file, text in mutant.texts.items():
            (self.root / file).write_text(text, "utf-8")
        try:
            needs_failure = mutant.key in ON_FAILURE_ONLY
            return self.judged(mutant.label, needs_failure=needs_failure, runs=runs)
        finally:
            for file, text in before.items():
                (self.root / file).write_text(text, "utf-8")


def first_scenarios():
    """Return the first scenario of every builder."""
    found = {}
    for name, scenario in registry().items():
        found.setdefault(scenario.builder, name)
    return list(found.values())


def edge_mutants(root):
    scope = scope_of("native", root)
    tree = SourceTree([read_unit(root, file) for file in scope.files])
    return generate_mutants(tree, scope, {"drop_edge": OPERATORS["drop_edge"]})


def render_page(rows, *, runs):
    """Return the page: introduction, figures and the table."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row.cells) for row in rows]
    introduction = INTRODUCTION.format(
        runs=runs,
        scenarios=len(first_scenarios()),
        edges=len(rows),
        gate=sum(bool(row.gate) and row.gate.kind == LOST_EDGE for row in rows),
        exact=sum(bool(row.exact) and row.exact.kind == LOST_EDGE for row in rows),
        explored=sum(bool(row.violation) for row in rows),
    )
    return introduction + HEADER + "".join(f"| {line} |\n" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40, help="random runs a builder")
    parser.add_argument("--markdown", type=Path, help="write the page here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        clone = Clone(Path(scratch) / "checkout")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone.root], check=True)
        control = clone.judged("code as it is", needs_failure=False, runs=options.runs)
        if control.gate or control.exact or control.violation:
            raise SystemExit(f"control: must have no cause and no violation; got {control}")
        rows = []
        for mutant in edge_mutants(clone.root):
            rows.append(clone.judged_mutant(mutant, runs=options.runs))
            print(" | ".join(rows[-1].cells), file=sys.stderr, flush=True)
    text = render_page(rows, runs=options.runs)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    print(text)
    complaints = [line for row in rows for line in row.complaints]
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
