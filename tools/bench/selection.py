"""Proof of the selection by mutants: what a gate does not run must be as it was.

A mutant changes one place of the tree. Every scenario that the gate would not run on it is run all
the same: one whose trace differs is a lost difference.
"""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tools.console import progress
from tools.errors import ToolError
from tools.mutation.generator import generate_mutants
from tools.mutation.mutant import Mutant
from tools.mutation.operators import OPERATORS
from tools.mutation.scopes import scope_of
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import read_unit
from tools.session import Session
from tools.sides.kept.keeper import SideKeeper
from tools.sides.kept.trees import read_tree
from tools.sides.open import OpenSide
from tools.sides.parse import Side
from tools.sides.targets import find_target
from tools.workers.pool import core_count
from tools.workers.protocol import RunResult, RunScenario
from tools.workers.results import HASH_SEEDS
from traces.targets.common.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionProof:
    """The result of one mutant.

    Attributes:
        selected_num: scenarios that the gate would run.
        everything: why it would run all; empty when it would not.
        lost: scenarios that it would not run though their traces differ.
    """

    mutant: str
    selected_num: int
    everything: str
    lost: tuple[str, ...]


def prove_selection(
    session: Session, side: Side, *, device: str, sample: int, seed: int
) -> dict[str, Any]:
    """Draw mutants of a side, run on each what the gate would not run, and count what differs.

    Raises:
        ToolError: the side cannot be prepared or imported, or is not deterministic.
    """
    scenarios = tuple(session.scenarios.values())
    with session.open_kept_side(side, device=device) as opened:
        base = opened.plan(
            scenarios, device=device, lists_builders=False, runs_all=False, keeps="all"
        ).run()
        base.require_no_problems(subject="bench selection", rule="every scenario must run alike")
        known = {**base.texts, **base.unplayable}
        mutants = _draw_mutants(session.target, opened.root, sample=sample, seed=seed)
        proofs = []
        with progress("judging mutants", total=len(mutants)) as on_finished:
            for mutant in mutants:
                proofs.append(_prove(session, opened, mutant, known=known, device=device))
                on_finished(mutant.label)
    kept = [len(scenarios) - proof.selected_num for proof in proofs]
    return {
        "mutants": len(proofs),
        "scenarios": len(scenarios),
        "mutants_that_reach_everything": sum(bool(proof.everything) for proof in proofs),
        "mean_share_selected": 1 - sum(kept) / len(kept) / len(scenarios),
        "runs_not_selected": sum(kept),
        "runs_lost": sum(len(proof.lost) for proof in proofs),
        "lost": [f"{proof.mutant}: {', '.join(proof.lost)}" for proof in proofs if proof.lost],
    }


def _draw_mutants(target: str, root: Path, *, sample: int, seed: int) -> list[Mutant]:
    scope = scope_of(target, root)
    tree = SourceTree([read_unit(root, file) for file in scope.files])
    found = generate_mutants(tree, scope, OPERATORS)
    return random.Random(seed).sample(found, min(sample, len(found)))


def _prove(
    session: Session, base: OpenSide, mutant: Mutant, *, known: dict[str, str], device: str
) -> SelectionProof:
    scenarios = tuple(session.scenarios.values())
    with _mutated_side(session, base, mutant) as opened:
        assert opened.keeper is not None
        found = opened.keeper.find(scenarios)
        others = [one for one in scenarios if one.name in found.by_scenario]
        lost = _differing(opened, others, known=known, device=device) if others else ()
    return SelectionProof(
        mutant=mutant.label,
        selected_num=len(scenarios) - len(others),
        everything="" if found.change is None else found.change.everything,
        lost=lost,
    )


def _differing(
    opened: OpenSide, scenarios: list[Scenario], *, known: dict[str, str], device: str
) -> tuple[str, ...]:
    # One hash seed: that the base is deterministic is known.
    pool = replace(opened.pool, seeds=HASH_SEEDS[:1], size=core_count())
    tasks = [RunScenario(scenario=one, device=device) for one in scenarios]
    lost = []
    for reply in pool.results(tasks):
        name, result = scenarios[reply.number].name, reply.result
        text = result.text if isinstance(result, RunResult) else result.reason
        if text != known[name]:
            lost.append(name)
    return tuple(sorted(lost))


@contextmanager
def _mutated_side(session: Session, base: OpenSide, mutant: Mutant) -> Iterator[OpenSide]:
    """Yield a copy of the base with one mutant in it; other files are links."""
    package = find_target(session.target).package
    if base.keeper is None:
        raise ToolError("recordings", "must be kept", expected="a cache", got="none")
    with TemporaryDirectory(prefix="goldentrace-mutant-") as scratch:
        root = Path(scratch).resolve()
        shutil.copytree(
            base.root / package,
            root / package,
            copy_function=_link_or_copy,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for file, text in mutant.texts.items():
            (root / file).unlink()
            (root / file).write_text(text, encoding="utf-8")
        prepared = replace(base.prepared, root=root)
        release = base.side.release
        keeper: SideKeeper = replace(
            base.keeper, side=mutant.label, tree=read_tree(root, folder=package, release=release)
        )
        with session.open_pool(prepared) as pool:
            yield OpenSide(side=base.side, prepared=prepared, pool=pool, keeper=keeper)


def _link_or_copy(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
