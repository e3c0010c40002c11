"""Life of the nodes of a release's tree while storage takes them.

A node goes from host to storage once its copy to the host is over, and keeps its host slots until
storage has taken it, though the tree is asked to evict. A lock that is given up too early, or
never, shows in the records of locks and of the owners of slots.
"""

from collections.abc import Callable, Iterator

from traces.schema.life import StateRecord
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.tree_driver import TreeDriver
from traces.targets.sglang.tree_ledger import TreeLedger

# Numbers of the parts of sequences that nothing else stores.
_SHARED, _ONE = 31, 32
# One launches the copy to storage behind that to the host, one finds nothing new.
_POLLS = 2


class StorageLife:
    """Has one tree store nodes; ``driver`` waits for the threads of storage, which are paused.

    With ``is_buffer`` its host memory is a buffer, and keeps no node's slots.
    """

    def __init__(
        self, *, driver: TreeDriver, device: ScriptDevice, ledger: TreeLedger, is_buffer: bool
    ) -> None:
        # What storage takes out of a buffer belongs to no node.
        self._read_between: Callable[[str], Iterator[StateRecord]]
        self._read_between = ledger.read_locks if is_buffer else ledger.read
        self._driver = driver
        self._device = device
        self._ledger = ledger

    def run(self) -> Iterator[StateRecord]:
        """Yield the records of every moment, from an empty tree on; everything is over then."""
        driver, ledger = self._driver, self._ledger
        stored = driver.sequence("stored", shared=_SHARED, one=_ONE)
        driver.insert(stored)
        driver.insert_again(stored)
        # A tree that writes back does so, and stores, when it evicts.
        driver.evict_device()
        self._device.synchronize()
        for _ in range(_POLLS):
            TreeDriver.poll(driver)
        yield from self._read_between("storing")
        driver.evict_device()
        driver.evict_host()
        yield from self._read_between("evicting in storing")
        driver.acknowledge()
        yield from ledger.read("stored", is_final=True)
        driver.evict_device()
        driver.acknowledge()
        driver.evict_host()
        driver.acknowledge()
        yield from ledger.read("evicted", is_final=True)
