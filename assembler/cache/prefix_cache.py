"""The prefixes of a cache: matching, insertion and locks of tokens, wherever their slots are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch

from assembler.cache.device_slots import ComponentAllocators
from assembler.cache.insertion import Insertion
from assembler.cache.keys import TOKEN_BYTES
from assembler.cache.nodes import CacheNode, full_slots
from assembler.cache.prefixes import (
    DecLockRefParams,
    IncLockRefResult,
    InsertParams,
    InsertResult,
    MatchPrefixParams,
    MatchResult,
)
from assembler.cache.reach import PrefixNeeds
from assembler.cache.tree import RadixTree
from assembler.cache.validation import validate_components, validate_params, validate_state
from assembler.names import ComponentType
from assembler.params import CacheInitParams


class PrefixCache(ABC):
    """A radix tree of tokens whose nodes have slots; prefixes are matched and kept in whole pages.

    Attributes:
        params: parameters of the constructor.
        page_size, token_to_kv_pool_allocator, req_to_token_pool: those of the parameters.
        tree_components: the parts of a node that own slots.
    """

    def __init__(self, params: CacheInitParams) -> None:
        """Start empty.

        Raises:
            AssemblyError: the cache is disabled, evicts in an unknown order, or asks for other
                components than the pools in ``params`` have.
        """
        validate_params(params)
        self._device_slots = ComponentAllocators(params)
        possible = self._device_slots.components()
        self.tree_components = validate_components(wanted=params.tree_components, possible=possible)
        self.params = params
        self.page_size = params.page_size
        self.token_to_kv_pool_allocator = params.token_to_kv_pool_allocator
        self.req_to_token_pool = params.req_to_token_pool
        self._needs = PrefixNeeds(
            window_tokens=params.sliding_window_size if ComponentType.SWA in possible else 0,
            has_state=ComponentType.MAMBA in possible,
        )
        self._tree = RadixTree(
            page_bytes=params.page_size * TOKEN_BYTES, note_split=self._note_split
        )

    def nodes(self) -> Iterator[CacheNode]:
        """Yield every node that has tokens, parents first."""
        yield from self._tree

    def evictable_size(self) -> int:
        """Return the tokens of unlocked nodes whose full KV is on the device."""
        return self._tree.device.tokens - self._tree.device.protected

    def protected_size(self) -> int:
        """Return the tokens of locked nodes whose full KV is on the device."""
        return self._tree.device.protected

    def match_prefix(self, params: MatchPrefixParams) -> MatchResult:
        """Return the longest cached prefix of some tokens, and use its nodes.

        A node that holds more than the prefix is split. Lock ``best_match_node`` before anything
        else is called, or it may be evicted.
        """
        path = self._tree.walk(params.key)
        return self._needs.match(path, self._tree.root(params.key.extra_key))

    def path_device_indices(self, node: CacheNode) -> torch.Tensor:
        """Return the full slots of the tokens up to ``node``.

        Shape: ``(slots,) int64`` in device memory.

        Raises:
            AssemblyError: the device lacks some of them.
        """
        return full_slots(node.path(), device=self.token_to_kv_pool_allocator.device)

    def insert(self, params: InsertParams) -> InsertResult:
        """Take over the device slots of some tokens, and free those of tokens that are cached.

        Tokens that only the host has get the caller's slots. An insertion is a use of every node of
        the tokens: the write policy says at which one a node is backed up, parents first.

        Raises:
            AssemblyError: slots are missing or have two owners, or there is a state and the model
                has none; nothing is changed then.

        Source: sglang 0.5.12 ``unified_radix_cache.py``, ``hiradix_cache.py:736-745``.
        """
        validate_state(params.mamba_value, self.tree_components, of="insert")
        insertion = Insertion(
            params,
            path=self._tree.walk(params.key),
            tree=self._tree,
            allocators=self._device_slots,
            has_window=ComponentType.SWA in self.tree_components,
        )
        root = self._tree.root(params.key.extra_key)
        nodes = insertion.run(root)
        last = nodes[-1] if nodes else root
        state_exists = not nodes or ComponentType.MAMBA in last.device
        if params.mamba_value is not None and not state_exists:
            self._tree.device.put(last, ComponentType.MAMBA, params.mamba_value)
        self._count_hits(nodes)
        return InsertResult(
            prefix_len=insertion.prefix_len,
            mamba_exist=params.mamba_value is not None and state_exists,
            last_device_node=last,
        )

    def inc_lock_ref(self, node: CacheNode) -> IncLockRefResult:
        """Keep the prefix up to ``node`` until :meth:`dec_lock_ref`.

        Locked are the full KV of all tokens, the windows that the last token sees, and the state of
        ``node``. Raises AssemblyError for a node that left.
        """
        self._tree.require(node)
        wanted = self._needs.lock_tokens(node.path())
        return IncLockRefResult(self._tree.lock(node, window_tokens=wanted))

    def dec_lock_ref(self, node: CacheNode, params: DecLockRefParams) -> None:
        """Undo one :meth:`inc_lock_ref`; raise AssemblyError for a node that is not locked."""
        self._tree.unlock(node, window_tokens=params.window_tokens)

    def _lock_copied(self, node: CacheNode, *, token_num: int) -> IncLockRefResult:
        """Lock a node for a copy of the windows of its last tokens."""
        wanted = token_num if ComponentType.SWA in self.tree_components else 0
        return IncLockRefResult(self._tree.lock(node, window_tokens=wanted))

    @abstractmethod
    def _count_hits(self, nodes: Sequence[CacheNode]) -> None:
        """Count a use of each node, parents first."""

    @abstractmethod
    def _note_split(self, upper: CacheNode, lower: CacheNode) -> None:
        """Take note that a node was split into two."""
