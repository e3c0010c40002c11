"""Script that assembles many stacks and moves no byte: drafts, layouts, ranks and server flags."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

from traces.schema.model import StepRecord
from traces.targets.common.source_reads import read_fact
from traces.targets.sglang.assembly import assemble, prepare_entry
from traces.targets.sglang.device_pools import (
    constructor_parameters,
    required_parameters,
    shard_arguments,
)
from traces.targets.sglang.discovery import all_names_of, installed_release
from traces.targets.sglang.errors import StepNote, UnsupportedByRelease
from traces.targets.sglang.families import FAMILIES, FAMILY_OF
from traces.targets.sglang.linker_pools import STEP as LINKER
from traces.targets.sglang.linker_pools import LinkerPools, group_function
from traces.targets.sglang.pool_variants import pool_variants
from traces.targets.sglang.product_rows import ProductRow, ProductScenario
from traces.targets.sglang.rank_context import RankContexts
from traces.targets.sglang.scenarios import AXES, GROUPS, NO_DRAFT
from traces.targets.sglang.server_flags import error_text, flag_values, remember_flags
from traces.targets.sglang.source_facts import used_imports
from traces.targets.sglang.stack_facts import stack_facts

STRATEGY = "strategy"
_Step: TypeAlias = Callable[[], Iterator[StepRecord]]


class AssemblyProduct:
    """Script of a scenario: every row of it, then its first row under every flag that is read.

    A tree's entry point is followed by the strategy behind it, called with all that it takes, and
    by the group of an external linker over the same pools. What the release refuses is in the
    record of the call that raised, with its text.

    Args:
        scenario: names the entry point and the family.
        ranks: process groups and server arguments.
        device: torch device of the pools.
        name_pools: told the name of each step, which the names of its pools begin with.

    Attributes:
        steps: names of the steps.
    """

    def __init__(
        self,
        scenario: ProductScenario,
        *,
        ranks: RankContexts,
        device: str,
        name_pools: Callable[[str], None],
    ) -> None:
        self._ranks = ranks
        self._device = device
        self._name_pools = name_pools
        self._notes: list[StepNote] = []
        self._unplayed: list[UnsupportedByRelease] = []
        self._assembled = 0
        rows = scenario.rows()
        self._row_num = len(rows)
        self._steps: dict[str, _Step] = {
            row.step: partial(self._assemble, row, row.step) for row in rows
        }
        undrafted = [row for row in rows if row.draft == NO_DRAFT]
        spread = (row for row in undrafted if GROUPS[row.groups].attn_cp_size > 1)
        over_ranks = next(spread, undrafted[0])
        for name in _other_pools(FAMILY_OF[scenario.model].pool_class):
            row = replace(over_ranks, pool_class=name)
            self._steps[row.step] = partial(self._assemble_fitting, row)
        for row in (*scenario.further_rows(over_ranks), *_variants(scenario, over_ranks)):
            self._steps[row.step] = partial(self._assemble, row, row.step)
        for flag in flag_values(_wiring_files()):
            if self._is_free(undrafted[0], flag.name, flag.default, flag.value):
                flags = {flag.name: flag.value}
                self._steps[flag.step] = partial(self._assemble, undrafted[0], flag.step, flags)
        if scenario.has_strategies:
            self._steps[STRATEGY] = partial(self._build_by_strategy, over_ranks)
            if group_function() is not None:
                self._steps[LINKER] = partial(self._show_to_linker, scenario.linked_rows())
        self.steps = tuple(self._steps)

    def take_notes(self) -> list[StepNote]:
        """Return, once, which steps could not run."""
        notes, self._notes = self._notes, []
        return notes

    def run_step(self, step: str) -> Iterator[StepRecord]:
        """Assemble the stack of a step; yield what pools answer there.

        Raises:
            UnsupportedByRelease: the release has assembled none of the rows, and lacks something.
        """
        self._name_pools(step)
        try:
            yield from self._steps[step]()
            self._assembled += 1
        except UnsupportedByRelease as error:
            self._notes.append(StepNote(f"not played: {step}: {error}", None))
            self._unplayed.append(error)
        except Exception as error:  # noqa: BLE001 - the release may raise anything
            self._notes.append(StepNote(f"refused: {step}: {error_text(error)}", error))
        is_last_row = list(self._steps).index(step) == self._row_num - 1
        if is_last_row and self._unplayed and not self._assembled:
            raise self._unplayed[0]

    def _assemble(
        self, row: ProductRow, step: str, flags: Mapping[str, Any] | None = None
    ) -> Iterator[StepRecord]:
        stack = assemble(row, ranks=self._ranks, device=self._device, flags=flags or {})
        yield from stack_facts(stack, step=step)

    def _assemble_fitting(self, row: ProductRow) -> Iterator[StepRecord]:
        """Assemble a row whose pools may exist for some layers and pages only, as they say."""
        models = dict.fromkeys((row.model, *FAMILY_OF[row.model].models))
        step = row.step
        sizes = dict.fromkeys((row.page_size, *AXES["page_size"]))
        for model, size in product(models, sizes):
            fitting = replace(row, model=model, page_size=size)
            try:
                prepare_entry(fitting, ranks=self._ranks, device=self._device)
            except Exception:  # noqa: BLE001 - the release may raise anything
                continue
            row = fitting
            break
        yield from self._assemble(row, step)

    def _build_by_strategy(self, row: ProductRow) -> Iterator[StepRecord]:
        prepare_entry(row, ranks=self._ranks, device=self._device).build_by_strategy()
        yield from ()

    def _show_to_linker(self, rows: list[ProductRow]) -> Iterator[StepRecord]:
        """Show the pools of each row to a linker, those with a draft where it takes the target's.

        A refusal of one is no refusal of another.
        """
        refused: set[str] = set()
        for row in rows:
            name = ".".join(part for part in (LINKER, row.model, row.draft_name) if part)
            if row.model in refused:
                continue
            try:
                entry_call = prepare_entry(row, ranks=self._ranks, device=self._device)
                yield from LinkerPools(entry_call, name=name).answers()
            except Exception as error:  # noqa: BLE001 - the release may raise anything
                self._notes.append(StepNote(f"refused: {name}: {error_text(error)}", error))
                refused.update([row.model] if row.draft == NO_DRAFT else [])

    def _is_free(self, row: ProductRow, name: str, default: object, value: object) -> bool:
        """Return whether a scenario leaves a flag at its default, and a server takes the value."""
        try:
            context = self._ranks.open(row, host_gigabytes=0, device=self._device)
            if name in context.given_flags or getattr(context.server_args, name) != default:
                return False
            self._ranks.open(row, host_gigabytes=0, device=self._device, flags={name: value})
        except Exception:  # noqa: BLE001 - the release may raise anything
            return False
        return True


def _variants(scenario: ProductScenario, row: ProductRow) -> Iterator[ProductRow]:
    """Yield a row with each variant of pools that a release's own construction never leads to.

    Flags lead to the other pools of all other families.
    """
    family = FAMILY_OF[scenario.model]
    if scenario.has_strategies and family.constructor == "deepseek_v4":
        for name in pool_variants(family.pool_class):
            yield replace(row, variant=name)


def _other_pools(pool_class: str) -> Iterator[str]:
    """Yield the classes of pools like another that stacks are made for otherwise.

    They split their layers over ranks, or stack builders name them.
    """
    release = installed_release()
    known = {release.find(*all_names_of(family.pool_class)) for family in FAMILIES.values()}
    base = release.find(*all_names_of(pool_class))
    named = {name for file in _wiring_files() for name in read_fact(used_imports, file)}
    for cls in release.device_pools():
        nearest = next((one for one in cls.__mro__ if one in known), None)
        if base is None or nearest is not base or cls is base:
            continue
        # Others are made from other things than the pools of a scenario.
        is_made_alike = required_parameters(cls) <= constructor_parameters(base)
        if shard_arguments(cls) or (cls.__name__ in named and is_made_alike):
            yield cls.__name__


def remember_wiring() -> None:
    """Read the sources of the stack builders once for all forks of this process."""
    remember_flags(_wiring_files(), used_imports)


def _wiring_files() -> tuple[Path, ...]:
    """Return the source files of the stack builders."""
    modules = installed_release().assemblers
    return tuple(sorted({Path(inspect.getfile(module)) for module in modules}))
