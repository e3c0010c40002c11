"""Kept runs of one side: looked up before it runs, written after it has run.

A kept run stands for a new one when its tree is the same, or when the difference of the trees
cannot reach it. Whatever is unsure is run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.sides.environments.cache import compiled_folder
from tools.sides.kept.lines import move_sites
from tools.sides.kept.reach import (
    TreeChange,
    changed_modules,
    compare_trees,
    unexecuted_functions,
)
from tools.sides.kept.store import KeptRun, KeptTree, RunStore, known_variables
from tools.sides.kept.trees import TreeContent, digest_of
from tools.workers.compiled_modules import trim_compiled_modules
from tools.workers.protocol import Reach, RunResult, merge_reaches
from traces.targets.common.scenario import Scenario

MAX_TREES = 4
"""Earlier trees that a tree is compared with, the last used first."""

MAX_MODULES = 100
"""Modules that may differ where changed functions that nothing executes are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """A kept run that stands for a new one."""

    run: KeptRun
    is_same_tree: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRuns:
    """Kept runs of some scenarios.

    Attributes:
        by_scenario: the runs that need not be repeated.
        seconds: time of the last known run of each scenario, whether or not it is to be repeated.
        expected: trace or reason of refusal of the last known run of each scenario, from a tree of
            the same release.
        builders: stack builders of the tree; None when they have to be listed.
        change: what differs from the earlier tree that most runs come from; None without one.
    """

    by_scenario: Mapping[str, FoundRun] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    builders: tuple[str, ...] | None = None
    change: TreeChange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideKeeper:
    """The kept runs of one side.

    Attributes:
        side: the side as the user named it.
        context: see :func:`~tools.sides.kept.context.context_digest`.
    """

    store: RunStore
    side: str
    target: str
    context: str
    tree: TreeContent

    def find(self, scenarios: Sequence[Scenario]) -> FoundRuns:
        """Return the runs that need not be repeated."""
        found: dict[str, FoundRun] = {}
        seconds: dict[str, float] = {}
        expected: dict[str, str] = {}
        builders: tuple[str, ...] | None = None
        nearest: TreeChange | None = None
        for folder, kept, change in self._earlier_trees():
            is_same = folder == self._folder
            self.store.mark_used(folder)
            for scenario in scenarios:
                run = self.store.read_run(folder, _digest(scenario))
                if run is None:
                    continue
                seconds.setdefault(scenario.name, run.seconds)
                if kept.release == self.tree.release:
                    expected.setdefault(scenario.name, run.reason or run.text)
                if scenario.name not in found and (is_same or not change.reaches(run.reach)):
                    moved = run if is_same else move_sites(run, kept.texts, self.tree)
                    found[scenario.name] = FoundRun(run=moved, is_same_tree=is_same)
            if builders is None and not change.everything:
                builders = kept.builders
            if nearest is None and not is_same:
                nearest = change
            if len(found) == len(scenarios):
                break
        return FoundRuns(
            by_scenario=found,
            seconds=seconds,
            expected=expected,
            builders=builders,
            change=nearest,
        )

    def unexecuted(self, head: TreeContent, scenarios: Sequence[Scenario]) -> tuple[str, ...]:
        """Return changed functions of a head that no import and no run of this tree executes.

        Nothing is returned where the run of a scenario is not kept, the head is of another release,
        or more than :data:`MAX_MODULES` modules differ.
        """
        changed = changed_modules(self.tree, head)
        if self.tree.release != head.release or not 0 < len(changed) <= MAX_MODULES:
            return ()
        kept = self._read_tree(self._folder)
        runs = [self.store.read_run(self._folder, _digest(scenario)) for scenario in scenarios]
        reaches = [run.reach for run in runs if run is not None]
        if kept is None or len(reaches) < len(scenarios):
            return ()
        reach = merge_reaches([kept.imports, *reaches])
        return unexecuted_functions(self.tree, head, reach=reach)

    def keep(
        self,
        results: Mapping[str, RunResult | str],
        reaches: Mapping[str, Reach],
        *,
        scenarios: Sequence[Scenario],
        imports: Reach,
        builders: tuple[str, ...],
    ) -> None:
        """Write runs; a text says why there is none."""
        known = self.store.read_tree(self._folder)
        if known is not None and known_variables(known.variables) != known.variables:
            # These runs are of another environment, and only some of them are replaced now.
            self.store.remove(self._folder)
            known = None
        together = merge_reaches([imports, *reaches.values()])
        names = (*together.variables, *(known.variables if known else ()))
        modules = {*together.functions, *(known.texts if known else ())}
        texts = {file: self.tree.text(file) for file in modules if file in self.tree.files}
        self.store.write_tree(
            self._folder,
            KeptTree(
                side=self.side,
                target=self.target,
                release=self.tree.release,
                files=dict(self.tree.files),
                texts={file: text for file, text in texts.items() if text is not None},
                imports=imports,
                variables=known_variables(tuple(names)),
                builders=builders,
            ),
        )
        for scenario in scenarios:
            result = results.get(scenario.name)
            if result is None or scenario.name not in reaches:
                continue
            run = _kept_run(result, reaches[scenario.name])
            self.store.write_run(self._folder, _digest(scenario), run)
        self.store.trim()
        trim_compiled_modules(compiled_folder())

    @property
    def _folder(self) -> Path:
        return self.store.folder(self.context, self.tree.digest)

    def _earlier_trees(self) -> Iterator[tuple[Path, KeptTree, TreeChange]]:
        """Yield the same tree first, then others, as long as the environment is the same."""
        others = [path for path in self.store.trees(self.context) if path != self._folder]
        for folder in (self._folder, *others[:MAX_TREES]):
            kept = self._read_tree(folder)
            if kept is None:
                continue
            before = TreeContent(root=folder, release=kept.release, files=kept.files)
            change = compare_trees(before, self.tree, texts=kept.texts, imports=kept.imports)
            yield folder, kept, change

    def _read_tree(self, folder: Path) -> KeptTree | None:
        """Return a kept tree; None when there is none for the environment as it is now."""
        kept = self.store.read_tree(folder)
        is_known = kept is not None and known_variables(kept.variables) == kept.variables
        return kept if is_known else None


def _kept_run(result: RunResult | str, reach: Reach) -> KeptRun:
    if isinstance(result, str):
        return KeptRun(text="", sites="", reason=result, reach=reach, seconds=0.0)
    return KeptRun(
        text=result.text, sites=result.sites, reason="", reach=reach, seconds=result.seconds
    )


def _digest(scenario: Scenario) -> str:
    return digest_of([repr(scenario)])
