"""Life of the nodes of a release's tree while their copies are on their way.

Between the launch and the end of a backup and of a load, the tree is asked to evict, free slots are
handed out and written, sequences are inserted that split nodes, and requests lock nodes and are
aborted. Then device and host run out of room, and at last the cache is flushed. At every moment the
locks of all nodes and the owners of all slots are recorded. A lock that is given up too early shows
in these records, and as a race on a simulated device.
"""

from collections.abc import Iterator

from traces.schema.life import EvictionCount, StateRecord
from traces.schema.model import RoundTrip, TreeMatch
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.peers import peer_behind
from traces.targets.sglang.retraction import Retraction
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.tree_client import TreeRequest
from traces.targets.sglang.tree_driver import MAMBA, TokenSequence, TreeDriver
from traces.targets.sglang.tree_ledger import CountedPool, TreeLedger
from traces.targets.sglang.tree_pressure import TreePressure

STEP = "life"
_CHECKS = ("writing_check", "loading_check")
_Records = Iterator[StateRecord]
_TreeRecords = Iterator[StateRecord | TreeMatch | RoundTrip]

# Numbers of the parts of sequences, whose tokens begin at a thousand times the number.
_SHARED, _ONE, _OTHER, _LATER = 11, 12, 13, 14


class TreeLife:
    """Drives one tree through the life of its nodes."""

    def __init__(
        self,
        stack: AssembledStack,
        *,
        driver: TreeDriver,
        device: ScriptDevice,
        pools: tuple[CountedPool, ...],
    ) -> None:
        self._stack = stack
        self._driver = driver
        self._device = device
        self._ledger = TreeLedger(stack, pools=pools, step=STEP)
        self._retraction = Retraction(stack, driver=driver, ledger=self._ledger)
        self._first = driver.sequence("first", shared=_SHARED, one=_ONE)
        self._second = driver.sequence("second", shared=_SHARED, other=_OTHER)

    def run(self) -> _TreeRecords:
        """Yield the records of every moment."""
        self._driver.flush()
        yield from self._ledger.read("fresh", is_final=True)
        yield from self._back_up()
        yield from self._request()
        yield from self._load()
        yield from self._run_out_of_room()
        yield from self._flush_in_backup()
        yield from self._flush_in_load()
        yield from self._load_behind()
        yield from self._retraction.run(STEP)

    def _back_up(self) -> _Records:
        """Evict, reuse and split while a backup is on its way."""
        driver = self._driver
        driver.insert(self._first)
        driver.insert_again(self._first)
        driver.poll()
        yield from self._ledger.read("backing_up")
        yield from self._evict("evicting_in_backup")
        yield from self._ledger.read("evicting_in_backup")
        driver.overwrite_free("between")
        driver.insert(self._second)
        driver.insert_again(self._second)
        driver.poll()
        yield from self._ledger.read("split_in_backup")
        driver.evict_device()
        driver.evict_host()
        driver.overwrite_free("after")
        yield from self._ledger.read("evicting_host_in_backup")
        self._finish_before_a_peer()
        yield from self._ledger.read("backed_up_before_a_peer")
        driver.acknowledge()
        yield from self._ledger.read("backed_up", is_final=True)

    def _request(self) -> _Records:
        """Evict while a request holds a node, and abort the request."""
        driver = self._driver
        self._ensure(self._second)
        match = driver.tree.match(
            driver.tree.key(self._second.raw_tokens, self._second.namespace), None
        )
        with driver.locked(match.last_device_node):
            yield from self._ledger.read("requested")
            yield from self._evict("evicting_in_request")
            driver.acknowledge()
            yield from self._ledger.read("evicting_in_request")
        yield from self._ledger.read("aborted", is_final=True)
        yield from self._evict("evicted")
        driver.acknowledge()
        yield from self._ledger.read("evicted", is_final=True)

    def _load(self) -> _Records:
        """Evict and reuse while a load is on its way, on both sides."""
        driver = self._driver
        match = driver.tree.match(
            driver.tree.key(self._second.raw_tokens, self._second.namespace), None
        )
        request = TreeRequest("load")
        request.take_match(match)
        if match.host_hit_length:
            driver.tree.load_back(match, request)
        yield from self._read_with_states("loading", request)
        yield from self._evict("evicting_in_load")
        driver.evict_host()
        yield from self._read_with_states("evicting_in_load", request)
        driver.overwrite_free("during")
        driver.insert(driver.sequence("later", later=_LATER))
        driver.poll()
        yield from self._read_with_states("inserted_in_load", request)
        self._finish_before_a_peer()
        yield from self._read_with_states("loaded_before_a_peer", request)
        driver.acknowledge()
        for state in request.states_taken():
            driver.return_state(state)
        yield from self._ledger.read("loaded", is_final=True)

    def _run_out_of_room(self) -> _TreeRecords:
        """Leave room for two sequences on the host, and insert more of them than fit."""
        pressure = TreePressure(self._stack, driver=self._driver, ledger=self._ledger)
        yield from pressure.fill()
        yield from pressure.match_all()
        pressure.give_back()

    def _flush_in_backup(self) -> _Records:
        """Flush while a backup is on its way, as an idle server may, and go on once it is over.

        Nothing is written before: nobody uses that copy, whatever it reads.
        """
        driver = self._driver
        driver.insert(self._first)
        driver.insert_again(self._first)
        driver.poll()
        driver.flush()
        yield from self._ledger.read("flushed", is_final=True)
        driver.acknowledge()
        yield from self._ledger.read("idle", is_final=True)
        driver.insert(self._second)
        driver.insert_again(self._second)
        driver.poll()
        yield from self._ledger.read("backing_up_again")
        driver.acknowledge()
        yield from self._ledger.read("backed_up_again", is_final=True)

    def _flush_in_load(self) -> _Records:
        """Flush before a load is acknowledged, once its request was aborted, and go on.

        The load itself is over: a server is not idle before the forward pass that waits for it is.
        """
        driver = self._driver
        driver.evict_device()
        driver.acknowledge()
        request = TreeRequest("flushed")
        match = driver.tree.match(
            driver.tree.key(self._second.raw_tokens, self._second.namespace), None
        )
        request.take_match(match)
        if match.host_hit_length:
            driver.tree.load_back(match, request)
        self._device.synchronize()
        driver.flush()
        driver.acknowledge()
        yield from self._ledger.read("flushed_in_load", is_final=True)
        driver.insert(self._first)
        driver.insert_again(self._first)
        driver.acknowledge()
        yield from self._ledger.read("end", is_final=True)

    def _load_behind(self) -> _Records:
        """Load the end of a sequence whose shared half is still on the device."""
        driver = self._driver
        for sequence in (self._first, self._second):
            driver.insert(sequence)
            driver.insert_again(sequence)
            driver.acknowledge()
        driver.tree.evict(driver.part, 1)
        driver.acknowledge()
        yield from self._ledger.read("evicted_in_part", is_final=True)
        for sequence in (self._first, self._second):
            key = driver.tree.key(sequence.raw_tokens, sequence.namespace)
            match = driver.tree.match(key, None)
            request = TreeRequest(f"load {sequence.name}")
            request.take_match(match)
            if not match.host_hit_length:
                continue
            driver.tree.load_back(match, request)
            yield from self._read_with_states(f"loading_{sequence.name}", request)
            driver.acknowledge()
            for state in request.states_taken():
                driver.return_state(state)
        yield from self._ledger.read("loaded_in_part", is_final=True)

    def _finish_before_a_peer(self) -> None:
        """Have the tree process copies that are over on this rank, and not on another."""
        self._device.synchronize()
        with peer_behind():
            self._driver.poll()
            # That may have launched further copies.
            self._device.synchronize()
            # Code that waits for one kind of copies calls these, which count for themselves.
            for name in _CHECKS:
                check = getattr(self._stack.cache, name, None)
                if check is not None:
                    check()

    def _evict(self, moment: str) -> _Records:
        """Ask the tree to evict everything on the device; yield what it counts."""
        for name, number in self._driver.evict_device().items():
            yield EvictionCount(step=STEP, moment=moment, name=name, number=number)

    def _ensure(self, sequence: TokenSequence) -> None:
        """Insert a sequence that the device lost."""
        key = self._driver.tree.key(sequence.raw_tokens, sequence.namespace)
        match = self._driver.tree.match(key, None)
        if len(self._driver.tree.device_slots(match)) < len(sequence.tokens):
            self._driver.insert(sequence)
            self._driver.acknowledge()

    def _read_with_states(self, moment: str, request: TreeRequest) -> _Records:
        """Read the ledger while a request holds states of its own."""
        self._ledger.held["device", MAMBA] = len(request.states_taken())
        yield from self._ledger.read(moment)
        self._ledger.held["device", MAMBA] = 0
