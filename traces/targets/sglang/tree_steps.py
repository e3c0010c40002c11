"""Steps of a scenario whose stack was assembled by a release's own tree."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from traces.schema.model import StepRecord
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.pool_answers import told_values
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.tree_anchor_script import script_of_tree
from traces.targets.sglang.tree_ledger import CountedPool, TreeLedger
from traces.targets.sglang.tree_life import STEP as LIFE
from traces.targets.sglang.tree_life import TreeLife
from traces.targets.sglang.tree_pressure import STEP as FULL
from traces.targets.sglang.tree_pressure import TreePressure
from traces.targets.sglang.tree_requests import STEP as REQUESTS
from traces.targets.sglang.tree_requests import TreeRequests
from traces.targets.sglang.tree_script import TreeScript
from traces.targets.sglang.tree_storage_script import TreeStorageScript, later_steps

TREE = "tree"
_TIMEOUT = "prefetch_timeout"
Steps: TypeAlias = Mapping[str, Callable[[], Iterator[StepRecord]]]


class TreeSteps:
    """Drives the tree of one stack, where it has one: the first step decides whether others do."""

    def __init__(
        self,
        stack: AssembledStack,
        *,
        device: ScriptDevice,
        rows: RowContents,
        transfers: ControllerDriver,
        pools: tuple[CountedPool, ...],
    ) -> None:
        self._stack = stack
        self._device = device
        self._rows = rows
        self._transfers = transfers
        self._pools = pools
        self._script: TreeScript | None = None
        self._notes: list[str] = []
        self._has_storage = bool(getattr(stack.controller, "enable_storage", False))

    @property
    def steps(self) -> Steps:
        """The steps that follow those of the controller, by name in order."""
        if not self._has_storage:
            return {TREE: self._drive, LIFE: self._live, REQUESTS: self._serve_requests}
        # Storage threads go on while copies fly: prefetches have a step of their own.
        later = later_steps(self._stack.cache)
        return {TREE: self._drive, **{step: partial(self._use_storage, step) for step in later}}

    @property
    def last_steps(self) -> Steps:
        """The steps that nothing may follow: a release may fail in them."""
        return {} if self._has_storage else {FULL: self._run_out_of_room}

    def take_notes(self) -> list[str]:
        """Return, once, why the tree could not be driven, a line each."""
        notes, self._notes = self._notes, []
        return notes

    def flush(self) -> None:
        """Empty the tree, if it was driven."""
        if self._script is not None:
            self._script.driver.flush()

    def _drive(self) -> Iterator[StepRecord]:
        """Run the script of the tree, which backs up, stores and loads by its own policy."""
        self._transfers.release_held()
        script = script_of_tree(self._stack, has_storage=self._has_storage)(
            self._stack, device=self._device, rows=self._rows, transfers=self._transfers
        )
        yield from script.run()
        self._notes += script.notes
        self._script = None if script.notes else script
        if self._has_storage and self._script is not None:
            # Storage is done, and locks no node any more; the scenario still has backed-up slots.
            ledger = TreeLedger(self._stack, pools=self._pools, step=TREE)
            for name, number in self._transfers.host_slots.items():
                ledger.held["host", name] = number
            yield from ledger.read("stored")
            yield from self._timeouts()

    def _timeouts(self) -> Iterator[StepRecord]:
        """Yield how long the tree waits for a prefetch, by its own attributes."""
        for name, value in sorted(vars(self._stack.cache).items()):
            if name.startswith(_TIMEOUT):
                values = _plain_numbers(value)
                yield told_values(step=TREE, holder="tree", method=name, values=values)

    def _use_storage(self, step: str) -> Iterator[StepRecord]:
        """Run a step of a tree with storage, from an empty tree."""
        if isinstance(self._script, TreeStorageScript):
            ledger = TreeLedger(self._stack, pools=self._pools, step=step)
            yield from self._script.run_later_step(step, ledger)

    def _live(self) -> Iterator[StepRecord]:
        """Evict, reuse, abort and flush while copies of the tree are on their way."""
        if self._script is not None:
            driver, device = self._script.driver, self._device
            life = TreeLife(self._stack, driver=driver, device=device, pools=self._pools)
            yield from life.run()

    def _serve_requests(self) -> Iterator[StepRecord]:
        """Have requests of the release match, fill and leave the tree."""
        if self._script is not None:
            driver = self._script.driver
            yield from TreeRequests(self._stack, driver=driver, pools=self._pools).run()

    def _run_out_of_room(self) -> Iterator[StepRecord]:
        """Load into a tree whose device and host have run out of room."""
        if self._script is not None:
            ledger = TreeLedger(self._stack, pools=self._pools, step=FULL)
            driver = self._script.driver
            yield from TreePressure(self._stack, driver=driver, ledger=ledger).run()


def _plain_numbers(value: Any) -> list[float]:  # noqa: ANN401 - a number, or the release's own record
    """Return a number, or those of a record."""
    names = getattr(type(value), "__annotations__", {})
    fields = [getattr(value, name) for name in names] if names else [value]
    return [one for one in fields if isinstance(one, int | float)]
