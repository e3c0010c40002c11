"""Session: one checkout and one target, with the workers that run its sides."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tools.goldens.golden_set import golden_folder, golden_names
from tools.sides.environments.cache import (
    CACHE_VARIABLE,
    PreparedSide,
    recordings_folder,
    scenario_rows_folder,
)
from tools.sides.kept.context import context_digest
from tools.sides.kept.keeper import SideKeeper
from tools.sides.kept.store import RunStore
from tools.sides.kept.trees import read_tree
from tools.sides.open import OpenSide, PoolFactory
from tools.sides.parse import Side, parse_side
from tools.sides.prepare import prepare_side
from tools.sides.targets import (
    NATIVE,
    Selection,
    find_target,
    load_declared_findings,
    load_scenarios,
    select_scenarios,
)
from tools.workers.pool import WorkerPool, core_count
from tools.workers.results import HASH_SEEDS
from traces.targets.common.covering import keep_rows_in
from traces.targets.common.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One checkout and one target.

    Attributes:
        scenarios: by name, in registry order.
        declared_findings: reasons of known audit findings that the scenarios declare, by key.
        open_pool: returns the workers of a prepared side.
        open_audit_pool: the same for an audit; None when an audit reads what the gate records.
        open_reach_pool: the same for runs that are kept.
        store: the kept runs; None when none are.
    """

    root: Path
    target: str
    scenarios: Mapping[str, Scenario]
    open_pool: PoolFactory
    open_audit_pool: PoolFactory | None
    declared_findings: Mapping[str, str] = field(default_factory=dict)
    open_reach_pool: PoolFactory | None = None
    store: RunStore | None = None

    @property
    def builders(self) -> dict[str, str]:
        """Builder of every scenario, by scenario name."""
        return {name: scenario.builder for name, scenario in self.scenarios.items()}

    @property
    def golden_folder(self) -> Path:
        """The directory of the target's goldens."""
        return golden_folder(self.root, target=self.target)

    @property
    def has_goldens(self) -> bool:
        """True for our own code, and for a package whose goldens were written."""
        return self.target == NATIVE or bool(golden_names(self.golden_folder))

    def select(self, names: Sequence[str] | None) -> Selection:
        """Return the named scenarios; all of them when none is named.

        Raises:
            ToolError: a name is unknown.
        """
        return select_scenarios(names, known=self.scenarios)

    def parse_side(self, text: str, *, python: Path | None = None) -> Side:
        """Return the side that a word on the command line names.

        Raises:
            ToolError: it names none.
        """
        return replace(parse_side(text, root=self.root, target=self.target), python=python)

    @contextmanager
    def open_side(self, side: Side) -> Iterator[OpenSide]:
        """Yield a side that can run scenarios; its workers and checkouts end with the block.

        Raises:
            ToolError: the side cannot be prepared.
        """
        with prepare_side(side, root=self.root) as prepared, self.open_pool(prepared) as pool:
            yield OpenSide(side=side, prepared=prepared, pool=pool)

    @contextmanager
    def open_audited_side(self, side: Side, *, device: str) -> Iterator[OpenSide]:
        """Yield a side as :meth:`open_side` does, whose runs hold all that an audit reads.

        Where the gate's runs hold it as well, they are kept and used.

        Raises:
            ToolError: the side cannot be prepared.
        """
        if self.open_audit_pool is None:
            with self.open_kept_side(side, device=device) as opened:
                yield opened
            return
        with prepare_side(side, root=self.root) as prepared, self.open_audit_pool(prepared) as pool:
            yield OpenSide(side=side, prepared=prepared, pool=pool)

    @contextmanager
    def open_kept_side(self, side: Side, *, device: str) -> Iterator[OpenSide]:
        """Yield a side as :meth:`open_side` does, whose runs are kept where that is possible.

        An interpreter of the user's own has packages that are not known here: nothing is kept.

        Raises:
            ToolError: the side cannot be prepared.
        """
        if self.store is None or self.open_reach_pool is None or side.python is not None:
            with self.open_side(side) as opened:
                yield opened
            return
        spec = find_target(self.target)
        with (
            prepare_side(side, root=self.root) as prepared,
            self.open_pool(prepared) as pool,
            self.open_reach_pool(prepared) as reach_pool,
        ):
            keeper = SideKeeper(
                store=self.store,
                side=side.text,
                target=self.target,
                context=context_digest(
                    prepared,
                    worker_class=spec.reach_worker_class,
                    device=device,
                    package=spec.package,
                ),
                tree=read_tree(prepared.root, folder=spec.package, release=side.release),
            )
            yield OpenSide(
                side=side,
                prepared=prepared,
                pool=pool,
                reach_pool=reach_pool,
                keeper=keeper,
                keeps_in_turns=spec.keeps_in_turns,
            )


def open_session(root: Path, *, target: str, limit_seconds: float) -> Session:
    """Return a session for one target; a scenario may take ``limit_seconds``.

    Raises:
        ToolError: the target is unknown.
    """
    known = find_target(target)
    keeps = not _is_forgetful_job()
    if keeps:
        keep_rows_in(scenario_rows_folder())

    def open_pool(side: PreparedSide, *, worker_class: str) -> WorkerPool:
        return WorkerPool(
            launcher=side.launcher(worker_class, isolated=target != NATIVE),
            size=max(1, core_count() // len(HASH_SEEDS)),
            limit_seconds=limit_seconds,
            seeds=HASH_SEEDS,
        )

    return Session(
        root=root,
        target=target,
        scenarios=load_scenarios(known),
        declared_findings=load_declared_findings(known),
        open_pool=partial(open_pool, worker_class=known.worker_class),
        open_audit_pool=partial(open_pool, worker_class=known.audit_worker_class)
        if known.audit_worker_class
        else None,
        open_reach_pool=partial(open_pool, worker_class=known.reach_worker_class),
        store=RunStore(recordings_folder()) if keeps else None,
    )


def _is_forgetful_job() -> bool:
    """Return whether nothing would be there the next time: a CI job without a cache directory."""
    return bool(os.environ.get("CI")) and not os.environ.get(CACHE_VARIABLE)
