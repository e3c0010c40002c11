"""Script of a controller's storage: pages go to storage and back, whole and with pages missing.

With the scenario's own backend, pages are taken away, fail to arrive, or are asked for by an
operation that is terminated. With the backends that the release registers, each of them is opened
in turn and keeps the pages of both nodes, and a prefix of one. Then tokens are asked for that share
a page with them, or nothing, and each stored page is missing once.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch

from traces.schema.model import DigestRecord, RoundTrip
from traces.schema.storage_records import StorageMatch
from traces.targets.common.content import digest
from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.errors import StageError
from traces.targets.sglang.host_pages import HostPages, HostTargets
from traces.targets.sglang.registered_backends import (
    BackendRefusedError,
    OpenBackend,
    open_backend,
    page_files,
    registered_backends,
)
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.storage.file_observer import FileObserver
from traces.targets.sglang.storage.threads import capture_thread_errors
from traces.targets.sglang.storage_driver import Fetched, StorageTierDriver, TokenPrefetch

STORAGE = "storage"
WHOLE = "whole"
_ANCHOR = "KV"
# Token ids of the nodes begin here, beyond those of a tree, a step apart.
_FIRST_TOKEN, _TOKENS_APART = 100_000, 1000
_NEVER_STORED = 50_000
# Pages of a node of which storage lacks one in some pool: as many as both nodes have together.
_GAP_PAGES = 3
# Rounds of requests to a backend with files, and what it is told: which pages it has it keeps in
# memory, for ever.
_ROUNDS = 2
_LITTLE_ROOM = {"enable_metadata_cache": True, "metadata_ttl": -1}

Loaded = list[dict[str, torch.Tensor]]
Compare = Callable[[str, list[list[torch.Tensor]], Loaded], list[RoundTrip]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNode:
    """A node whose host slots hold its content."""

    name: str
    pages: HostPages
    tokens: Sequence[int]


def stored_nodes(pages: Mapping[str, HostPages]) -> tuple[StoredNode, ...]:
    """Return nodes with tokens of their own, from their host slots by name."""
    return tuple(
        StoredNode(name=name, pages=own, tokens=range(first, first + len(own.host)))
        for first, (name, own) in zip(
            count(_FIRST_TOKEN, _TOKENS_APART), pages.items(), strict=False
        )
    )


# Keys of pages that are said to lie before those of a node.
_BEFORE = ("page-0", "page-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """A registered backend of a stack, to be opened over files."""

    stack: AssembledStack
    name: str
    model_name: str

    def of(self, files: FileObserver, *, room: int = 0) -> AbstractContextManager[OpenBackend]:
        """Open the backend over its files, of which it may keep so many bytes; 0 for all."""
        settings: dict[str, object] = {**_LITTLE_ROOM, "max_size": room} if room else {}
        return open_backend(self.stack, files, model_name=self.model_name, settings=settings)


class StorageScript:
    """Runs the storage of one stack, two nodes of which are backed up.

    ``compare`` compares loaded rows with the content of all nodes, in their order; ``notes`` has
    what was not run or refused, a line each.
    """

    def __init__(
        self,
        stack: AssembledStack,
        *,
        rows: RowContents,
        transfers: ControllerDriver,
        compare: Compare,
    ) -> None:
        self._stack = stack
        self._rows = rows
        self._transfers = transfers
        self._compare = compare
        self._page = stack.page_size
        self._targets = HostTargets(stack)
        self.notes: list[str] = []

    def run_own_backend(self, nodes: Sequence[StoredNode]) -> Iterator[DigestRecord]:
        """Write nodes, fetch them into other host slots, load those, then disturb storage.

        Pages that this rank does not store cannot be fetched: other ranks have other processes.
        """
        with capture_thread_errors() as thread_errors:
            tier = StorageTierDriver(self._stack, thread_errors, self._targets)
            for node in nodes:
                tier.write(node.pages, node.tokens)
                tier.prefix_keys = _BEFORE
            tier.prefix_keys = ()
            fetched = [tier.fetch(node.pages, TokenPrefetch(tokens=node.tokens)) for node in nodes]
            for node, found in zip(nodes, fetched, strict=True):
                yield self._match(node, found, WHOLE, equal=None)
            if all(found.is_whole() for found in fetched):
                yield from self._compare_loaded(fetched)
            else:
                self.notes.append("not played: loading from storage what this rank does not store")
            yield from self._disturbed(tier, nodes[0])
        self._targets.free()

    def run_registered_backends(
        self, nodes: Sequence[StoredNode], *, model_name: str
    ) -> Iterator[DigestRecord]:
        """Write nodes to every backend that the release registers, and fetch them again."""
        for name in registered_backends():
            with capture_thread_errors() as thread_errors:
                opening = _Opening(stack=self._stack, name=name, model_name=model_name)
                try:
                    yield from self._in_each_way(thread_errors, nodes, opening)
                except BackendRefusedError:
                    # Recorded with its reason.
                    continue
                except StageError as error:
                    self.notes.append(f"failed: storage backend {name}: {error}")
        self._targets.free()

    def _in_each_way(
        self,
        thread_errors: Mapping[threading.Thread, str],
        nodes: Sequence[StoredNode],
        opening: _Opening,
    ) -> Iterator[StorageMatch]:
        """Open a backend; one with files again over more than it may keep, and over none."""
        with page_files(opening.name) as files:
            with opening.of(files) as opened:
                tier = StorageTierDriver(self._stack, thread_errors, self._targets)
                yield from self._through_backend(tier, nodes, opened)
            room = files.page_bytes() * 2 // 3
            if not room:
                return
            files.order_ages()
            with opening.of(files, room=room):
                for node in nodes:
                    found = tier.fetch(node.pages, TokenPrefetch(tokens=node.tokens))
                    phase = "opened over more files than it may keep"
                    yield self._match(node, found, phase, equal=None, backend=opening.name)
        with page_files(opening.name) as files, opening.of(files, room=room) as opened:
            yield from self._with_little_room(tier, nodes, opened)
            yield self._cleared(tier, nodes[-1], opened)

    def _through_backend(
        self, tier: StorageTierDriver, nodes: Sequence[StoredNode], opened: OpenBackend
    ) -> Iterator[StorageMatch]:
        stored: dict[str, tuple[str, ...]] = {}
        for node in nodes:
            before = len(opened.stored_keys())
            tier.write(node.pages, node.tokens)
            stored[node.name] = opened.stored_keys()[before:]
        for node in nodes:
            found = tier.fetch(node.pages, TokenPrefetch(tokens=node.tokens))
            is_comparable = found.is_whole() and opened.is_observed()
            equal = self._are_equal(node.pages, found.pages) if is_comparable else None
            yield self._match(node, found, WHOLE, equal=equal, backend=opened.name)
        self._write_prefix(tier, nodes)
        yield from self._from_backend_in_vain(tier, nodes[0], opened, stored[nodes[0].name])
        yield from self._behind_gaps(tier, nodes, opened)

    def _with_little_room(
        self, tier: StorageTierDriver, nodes: Sequence[StoredNode], opened: OpenBackend
    ) -> Iterator[StorageMatch]:
        """Write and fetch nodes in turn that do not all have room: files are removed for others."""
        for number in range(_ROUNDS):
            for node in nodes:
                tier.write(node.pages, node.tokens)
                for asked in nodes:
                    found = tier.fetch(asked.pages, TokenPrefetch(tokens=asked.tokens))
                    phase = f"little room, behind {node.name} in round {number}"
                    yield self._match(asked, found, phase, equal=None, backend=opened.name)

    def _cleared(
        self, tier: StorageTierDriver, node: StoredNode, opened: OpenBackend
    ) -> StorageMatch:
        """Fetch a node once the backend was cleared; one that keeps all of it has it yet."""
        self._stack.controller.storage_backend.clear()
        found = tier.fetch(node.pages, TokenPrefetch(tokens=node.tokens))
        return self._match(node, found, "cleared", equal=None, backend=opened.name)

    def _write_prefix(self, tier: StorageTierDriver, nodes: Sequence[StoredNode]) -> None:
        """Write the first page of a node as a node of its own.

        Its tokens have the same rows; its states are those of another node with as many tokens.
        """
        node, page = nodes[0], self._page
        states = [one.pages.extra for one in nodes if len(one.tokens) == page]
        if len(node.tokens) > page and states:
            pages = HostPages(host=node.pages.host[:page], extra=states[0])
            tier.write(pages, node.tokens[:page])

    def _from_backend_in_vain(
        self,
        tier: StorageTierDriver,
        node: StoredNode,
        opened: OpenBackend,
        keys: Sequence[str],
    ) -> Iterator[StorageMatch]:
        """Fetch other tokens, then a node while each of its pages is missing, and one fails."""
        whole = TokenPrefetch(tokens=node.tokens)
        phases: list[tuple[str, AbstractContextManager[None], TokenPrefetch]] = [
            (phase, nullcontext(), TokenPrefetch(tokens=tokens))
            for phase, tokens in _other_tokens(node.tokens, self._page)
        ]
        phases += [
            (f"without its stored page {number}", opened.missing_page(key), whole)
            for number, key in enumerate(keys)
        ]
        if opened.store.has_pages and keys:
            phases.append(("fails at its last page", opened.store.failing_page(keys[-1]), whole))
        for phase, disturbance, asked in phases:
            with disturbance:
                found = tier.fetch(node.pages, asked)
            yield self._match(node, found, phase, equal=None, backend=opened.name)

    def _behind_gaps(
        self, tier: StorageTierDriver, nodes: Sequence[StoredNode], opened: OpenBackend
    ) -> Iterator[StorageMatch]:
        """Fetch nodes of three pages, each without the last page of another pool in storage.

        Their windows have as many pages as they, more than storage has of them. Their first two
        pages were stored whole, as a node of their own.
        """
        for number, lacking in enumerate(nodes[0].pages.extra):
            first = _FIRST_TOKEN + (len(nodes) + number) * _TOKENS_APART
            tokens = range(first, first + _GAP_PAGES * self._page)
            known = (_GAP_PAGES - 1) * self._page
            tier.write(self._long_pages(nodes, _GAP_PAGES - 1), tokens[:known])
            pages = self._long_pages(nodes, _GAP_PAGES)
            tier.write(pages, tokens, lacking=lacking)
            node = StoredNode(name="third", pages=pages, tokens=tokens)
            found = tier.fetch(pages, TokenPrefetch(tokens=tokens))
            phase = f"{lacking} lacks its last page"
            yield self._match(node, found, phase, equal=None, backend=opened.name)

    def _long_pages(self, nodes: Sequence[StoredNode], page_num: int) -> HostPages:
        """Return host slots of so many pages with content, those of nodes one after another.

        Of a pool with one state for a node it is the state of one of them.
        """
        pools = entries_of(self._stack.group)
        extra = {}
        for name in nodes[0].pages.extra:
            slots = torch.cat([node.pages.extra[name] for node in nodes])
            width = getattr(pools[name].host_pool, "page_size", 1) or 1
            num = page_num if width > 1 else 1
            extra[name] = slots.repeat(page_num)[: num * width]
        host = torch.cat([node.pages.host for node in nodes])
        return HostPages(host=host[: page_num * self._page], extra=extra)

    def _compare_loaded(self, fetched: Sequence[Fetched]) -> Iterator[DigestRecord]:
        """Load what was fetched into a poisoned device and compare it."""
        self._rows.poison(STORAGE)
        before = self._rows.snapshot()
        loaded = [self._transfers.load(found.pages.host, found.pages.extra) for found in fetched]
        self._transfers.start_loading()
        yield from self._compare(STORAGE, before, loaded)
        self._transfers.finish_loading()
        for slots in loaded:
            self._transfers.return_slots(slots)

    def _disturbed(self, tier: StorageTierDriver, node: StoredNode) -> Iterator[StorageMatch]:
        """Fetch a node while a page is missing or fails, behind a known prefix, and in vain."""
        storage = self._stack.controller.storage_backend
        keys = tier.keys(node.tokens)
        whole = TokenPrefetch(tokens=node.tokens)
        last = len(keys) - 1
        phases: list[tuple[str, Any, TokenPrefetch]] = [
            (f"{pool} without its last page", storage.without_page(pool, keys[last]), whole)
            for pool in (_ANCHOR, *self._sidecars())
            if storage.has_page(pool, keys[last])
        ]
        phases += [
            (f"{pool} fails at its last page", storage.failing_page(pool, keys[last]), whole)
            for pool in (_ANCHOR, *self._sidecars())
            if storage.has_page(pool, keys[last])
        ]
        behind = TokenPrefetch(tokens=node.tokens, skipped=1)
        below = TokenPrefetch(tokens=node.tokens, threshold=tier.threshold)
        aborted = TokenPrefetch(tokens=node.tokens, during=storage.held_queries, is_aborted=True)
        phases += [
            ("below the threshold", ExitStack(), below),
            ("behind its first page", ExitStack(), behind),
            ("aborted", ExitStack(), aborted),
        ]
        for phase, disturbance, asked in phases:
            with disturbance:
                found = tier.fetch(node.pages, asked)
            yield self._match(node, found, phase, equal=None)

    def _sidecars(self) -> tuple[str, ...]:
        return tuple(name for name in entries_of(self._stack.group) if name != _ANCHOR)

    def _are_equal(self, stored: HostPages, found: HostPages) -> bool:
        """Compare the pages of the host pools, as the release itself reads a page."""
        entries = entries_of(self._stack.group)
        pools = {name: entry.host_pool for name, entry in entries.items()}
        equal = True
        for name, pool in (pools or {_ANCHOR: self._stack.group}).items():
            own = stored.extra.get(name) if name in stored.extra else None
            shared = name == _ANCHOR or (own is None and self._follows_anchor(name))
            if own is None and not shared:
                continue
            first, second = (stored.host, found.host) if own is None else (own, found.extra[name])
            # Decode ranks widen a page of the anchor; other pools have pages of their own.
            width = self._page if shared else getattr(pool, "page_size", 1) or 1
            equal = equal and _pages_equal(pool, first[::width], second[::width])
        return equal

    def _follows_anchor(self, name: str) -> bool:
        return dict(self._stack.sidecars).get(name, _ANCHOR) == _ANCHOR

    def _match(
        self,
        node: StoredNode,
        found: Fetched,
        phase: str,
        *,
        equal: bool | None,
        backend: str = "",
    ) -> StorageMatch:
        return StorageMatch(
            step=STORAGE,
            backend=backend,
            sequence=node.name,
            phase=phase,
            asked=len(found.pages.host),
            available=None,
            hits=found.hits,
            arrived=found.arrived,
            pools=found.pools,
            is_over=True,
            equal=equal,
        )


def _other_tokens(tokens: Sequence[int], page: int) -> Iterator[tuple[str, list[int]]]:
    """Yield tokens that share their first page with stored ones, and some that share nothing."""
    others = list(range(_NEVER_STORED, _NEVER_STORED + len(tokens)))
    if len(tokens) > page:
        yield "only its first page is stored", [*tokens[:page], *others[page:]]
    yield "nothing of it is stored", others


def _pages_equal(pool: Any, first: torch.Tensor, second: torch.Tensor) -> bool:  # noqa: ANN401
    """Compare the pages that begin at the given slots of one pool."""
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        stored, found = pool.get_data_page(one, flat=True), pool.get_data_page(other, flat=True)
        if stored is not None and digest([stored]) != digest([found]):
            return False
    return True
