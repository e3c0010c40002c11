"""Script that assembles many stacks and moves no byte: drafts, layouts, ranks and server flags."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from traces.targets.sglang.assembly import assemble
from traces.targets.sglang.device_pools import shard_arguments
from traces.targets.sglang.discovery import all_names_of, installed_release
from traces.targets.sglang.errors import StepNote, UnsupportedByRelease
from traces.targets.sglang.families import FAMILIES, FAMILY_OF
from traces.targets.sglang.product_rows import ProductRow, ProductScenario
from traces.targets.sglang.rank_context import RankContexts
from traces.targets.sglang.scenarios import GROUPS, NO_DRAFT
from traces.targets.sglang.server_flags import error_text, flag_values, remember_flags


class AssemblyProduct:
    """Script of a scenario: every row of it, then its first row under every flag that is read.

    What the release refuses is in the record of the call that raised, with its text.

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
        self._steps: dict[str, tuple[ProductRow, Mapping[str, Any]]] = {
            row.step: (row, {}) for row in rows
        }
        undrafted = [row for row in rows if row.draft == NO_DRAFT]
        spread = (row for row in undrafted if GROUPS[row.groups].attn_cp_size > 1)
        over_ranks = next(spread, undrafted[0])
        for name in _sharded_pools(FAMILY_OF[scenario.model].pool_class):
            row = replace(over_ranks, pool_class=name)
            self._steps[row.step] = (row, {})
        for flag in flag_values(_wiring_files()):
            if self._is_free(undrafted[0], flag.name, flag.default, flag.value):
                self._steps[flag.step] = (undrafted[0], {flag.name: flag.value})
        self.steps = tuple(self._steps)

    def take_notes(self) -> list[StepNote]:
        """Return, once, which steps could not run."""
        notes, self._notes = self._notes, []
        return notes

    def run_step(self, step: str) -> None:
        """Assemble the stack of a step.

        Raises:
            UnsupportedByRelease: the release has assembled none of the rows, and lacks something.
        """
        row, flags = self._steps[step]
        self._name_pools(step)
        try:
            assemble(row, ranks=self._ranks, device=self._device, flags=flags)
            self._assembled += 1
        except UnsupportedByRelease as error:
            self._notes.append(StepNote(f"not played: {step}: {error}", None))
            self._unplayed.append(error)
        except Exception as error:  # noqa: BLE001 - the release may raise anything
            self._notes.append(StepNote(f"refused: {step}: {error_text(error)}", error))
        is_last_row = list(self._steps).index(step) == self._row_num - 1
        if is_last_row and self._unplayed and not self._assembled:
            raise self._unplayed[0]

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


def _sharded_pools(pool_class: str) -> Iterator[str]:
    """Yield the classes of pools like another that split their layers over ranks."""
    release = installed_release()
    known = {release.find(*all_names_of(family.pool_class)) for family in FAMILIES.values()}
    base = release.find(*all_names_of(pool_class))
    for cls in release.device_pools():
        nearest = next((one for one in cls.__mro__ if one in known), None)
        if base is not None and nearest is base and cls is not base and shard_arguments(cls):
            yield cls.__name__


def remember_wiring() -> None:
    """Read the sources of the stack builders once for all forks of this process."""
    remember_flags(_wiring_files())


def _wiring_files() -> tuple[Path, ...]:
    """Return the source files of the stack builders."""
    modules = installed_release().assemblers
    return tuple(sorted({Path(inspect.getfile(module)) for module in modules}))
