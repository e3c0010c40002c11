"""Life of the storage of a release's tree: detached, attached again, and cleared.

A server may detach storage while it runs, and attach it again. Storage is detached while a prefetch
is queried, once its pages have arrived, and while nodes are stored: whatever the tree keeps for
these shows in the records of locks and of the owners of slots. What is inserted while no storage is
attached must not be stored, and what was stored before must come back.

Does not see: slots into which a thread reads while storage is detached: releases leave them to it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from traces.schema.life import StateRecord
from traces.schema.model import DigestRecord
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.pool_answers import told_values
from traces.targets.sglang.rank_context import EXTRA_CONFIG, MODEL_NAME, PREFETCH_THRESHOLD
from traces.targets.sglang.signature_caller import SignatureCaller
from traces.targets.sglang.storage import BACKEND, LOADER
from traces.targets.sglang.storage.usage_reports import report_storage_use
from traces.targets.sglang.stored_tree_driver import StoredTreeDriver
from traces.targets.sglang.tree_driver import TokenSequence, TreeDriver
from traces.targets.sglang.tree_ledger import TreeLedger
from traces.targets.sglang.tree_prefetch import TreePrefetch

# No release prefetches less than a page, nor less than a window where rows come from a buffer.
_LOW_THRESHOLD = 1
STEP = "storage attachment"
_TICKETS = "pp_prefetch_command_group"
_Records: TypeAlias = Iterator[DigestRecord | StateRecord]

_ATTACH, _DETACH, _CLEAR = (f"{what}_storage_backend" for what in ("attach", "detach", "clear"))
# Numbers of the parts of sequences that nothing else stores.
_SHARED, _ONE, _LATE, _LAST, _APART, _BEHIND = 61, 62, 63, 64, 65, 66
_POLICY, _UNKNOWN = "wait_complete", "unknown"


def is_attachable(cache: Any) -> bool:  # noqa: ANN401 - a cache of the release, or a substitute
    """Return whether the storage of a cache can be detached and attached while it runs.

    Not where a first stage tells others what to fetch: how far its thread comes before it is told
    to stop would be up to the machine.
    """
    has_tickets = getattr(getattr(cache, "cache_controller", None), _TICKETS, None) is not None
    has_methods = all(callable(getattr(cache, name, None)) for name in (_ATTACH, _DETACH))
    return has_methods and not has_tickets


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageClient:
    """The steps of a script that a scheduler takes, too.

    ``ask`` waits for nothing, ``prefetch`` counts what arrived, ``load_back`` compares it.
    """

    ask: Callable[[TreePrefetch], object]
    prefetch: Callable[[TreePrefetch], _Records]
    load_back: Callable[[TokenSequence], Iterator[DigestRecord]]
    empty: Callable[[], None]


class AttachmentLife:
    """Detaches and attaches the storage of a tree, whose threads are paused."""

    def __init__(
        self,
        stack: AssembledStack,
        *,
        driver: StoredTreeDriver,
        client: StorageClient,
        ledger: TreeLedger,
        is_buffer: bool,
    ) -> None:
        # What a buffer has for a request, or of a node, belongs to no node.
        self._read_between = ledger.read_locks if is_buffer else ledger.read
        self._stack = stack
        self._cache: Any = stack.cache
        self._driver, self._client, self._ledger = driver, client, ledger
        self._detached: Any = None
        self._stored = driver.sequence("attached", shared=_SHARED, one=_ONE)

    def run(self) -> _Records:
        """Yield the records of every moment, from an empty tree on; storage is attached then."""
        self._insert(self._stored)
        yield from self._ledger.read("stored", is_final=True)
        self._client.empty()
        # Some releases have the methods, and say that they cannot.
        if self._detach("with nothing under way"):
            yield from self._live()
        if hasattr(self._cache, _CLEAR):
            yield from self._clear()

    def _live(self) -> _Records:
        """Detach storage at several moments; attach it again, and prefetch what it had."""
        for phase, begin in (
            ("a prefetch is queried", self._ask),
            ("a prefetch has arrived", self._fetch),
            ("nodes are stored", self._begin_to_store),
        ):
            yield from self._interrupt(f"detached while {phase}", begin)
        yield from self._insert_apart()
        yield from self._prefetch_again()

    def _interrupt(self, phase: str, begin: Callable[[], None]) -> _Records:
        """Attach storage, and detach it while something is under way; the tree is empty then."""
        self._attach(f"before it is {phase}")
        begin()
        yield from self._ledger.read_locks(f"{phase}: under way")
        self._detach(phase)
        self._driver.poll()
        yield from self._read_between(phase)
        self._client.empty()

    def _ask(self) -> None:
        """Ask for a sequence behind its first half, which the tree has."""
        self._insert(self._driver.sequence("half of attached", shared=_SHARED))
        self._client.ask(TreePrefetch(phase="", sequence=self._stored))

    def _fetch(self) -> None:
        self._ask()
        self._driver.acknowledge()

    def _begin_to_store(self) -> None:
        """Have the tree give a sequence to storage, whose threads do not begin on it."""
        driver = self._driver
        driver.insert(late := driver.sequence("late", late=_LATE, last=_LAST))
        driver.insert_again(late)
        driver.evict_device()
        driver.synchronize()
        # What storage is given now is not waited for.
        TreeDriver.poll(driver)

    def _insert_apart(self) -> _Records:
        """Insert while no storage is attached, and behind it once one is."""
        apart = self._driver.sequence("apart", apart=_APART, behind=_BEHIND)
        self._insert(self._driver.sequence("half of apart", apart=_APART))
        yield from self._ledger.read("inserted while detached", is_final=True)
        self._refuse("with an unknown policy", BACKEND, _UNKNOWN)
        self._attach("with a node that was not stored", threshold=_LOW_THRESHOLD)
        kept = [self._stack.controller.prefetch_threshold]
        yield told_values(step=STEP, holder="controller", method="prefetch_threshold", values=kept)
        self._refuse("another backend", _UNKNOWN, _POLICY)
        self._insert(apart)
        yield from self._ledger.read("inserted once attached", is_final=True)

    def _prefetch_again(self) -> _Records:
        """Prefetch what was stored before, by the policy that was attached, and compare it."""
        self._client.empty()
        held = self._stack.controller.storage_backend.held_queries
        asked = TreePrefetch(phase="attached again", sequence=self._stored)
        yield from self._client.prefetch(replace(asked, queried=held, policy=""))
        yield from self._client.load_back(self._stored)

    def _clear(self) -> _Records:
        """Clear storage, then store and prefetch anew."""
        self._client.empty()
        if not self._cache.clear_storage_backend():
            _report_refusal("clear", "refused")
        yield from self._client.prefetch(TreePrefetch(phase="cleared", sequence=self._stored))
        self._client.empty()
        self._insert(self._stored)
        self._client.empty()
        yield from self._client.prefetch(TreePrefetch(phase="stored again", sequence=self._stored))

    def _insert(self, sequence: TokenSequence) -> None:
        """Insert a sequence as often as a policy needs to store it, and wait for that."""
        self._driver.insert(sequence)
        self._driver.insert_again(sequence)
        # A tree that writes back does so, and stores, when it evicts.
        self._driver.evict_device()
        self._driver.acknowledge()

    def _detach(self, when: str) -> bool:
        self._detached = self._stack.controller.storage_backend or self._detached
        done, why = self._driver.detach()
        if not done:
            _report_refusal(f"detach {when}", why)
        return done

    def _attach(self, when: str, *, threshold: int = PREFETCH_THRESHOLD) -> None:
        """Attach a backend that finds the pages of the one that was detached."""
        done, why = self._call_attach(BACKEND, _POLICY, threshold=threshold)
        if not done:
            _report_refusal(f"attach {when}", why)
        elif (backend := self._stack.controller.storage_backend) is not self._detached:
            backend.take_over(self._detached)

    def _refuse(self, what: str, backend: str, policy: str) -> None:
        """Ask for an attachment that must be refused; how a release words that is its own."""
        if not self._call_attach(backend, policy, threshold=PREFETCH_THRESHOLD)[0]:
            _report_refusal(f"attach {what}", "refused")

    def _call_attach(self, backend: str, policy: str, *, threshold: int) -> tuple[Any, Any]:
        settings = {**EXTRA_CONFIG, **LOADER, "prefetch_threshold": threshold}
        given = {
            "storage_backend": backend,
            "storage_backend_extra_config_json": json.dumps(settings),
            "served_model_name": MODEL_NAME,
            "hicache_storage_prefetch_policy": policy,
            "hicache_write_policy": self._stack.scenario.write_policy,
        }
        answer: tuple[Any, Any] = SignatureCaller().call(self._cache.attach_storage_backend, given)
        return answer


def _report_refusal(what: str, why: Any) -> None:  # noqa: ANN401 - the release's own words
    """Report what a release did not do, with its reason."""
    report_storage_use(operation="refuse", pool="", key=f"{what}: {' '.join(str(why).split())}")
