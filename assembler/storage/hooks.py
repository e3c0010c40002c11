"""Operations of a storage tier for a cache: pages by key, host slots by component.

The cache decides which pages are stored or fetched, and owns their host slots. The tier names
pages, moves bytes between host slots and storage, and says when it is done. The tier never frees a
slot, and the cache never frees a slot that the tier was given before the tier said that it is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from assembler.names import ComponentType


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodeBackup:
    """Pages of a cache node that storage should keep.

    Attributes:
        node_id: the node; :meth:`StorageHooks.finished_backups` names it when its pages are kept.
        keys: key of each page, in token order.
        host: ``(slots,) int64`` host slots by component. Those of the full KV are all pages of the
            node. Those of a window or a state belong to its last tokens: a window has the slots of
            the last pages, a state has one slot.
    """

    node_id: int
    keys: tuple[str, ...]
    host: Mapping[ComponentType, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prefetch:
    """Pages that storage should bring to the host for a request.

    Attributes:
        request_id: the request, unique among prefetches that are under way.
        keys: key of each page, in token order, without the pages that the host has already.
        prefix_keys: keys of the pages before them, from the first token.
        host: ``(slots,) int64`` host slots to fill, by component, as in :class:`NodeBackup`.
    """

    request_id: str
    keys: tuple[str, ...]
    prefix_keys: tuple[str, ...]
    host: Mapping[ComponentType, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchResult:
    """Pages and components that a finished prefetch brought.

    Attributes:
        page_num: leading pages whose full KV and sidecars are on the host.
        components: components beside the full KV whose host slots hold the rows that belong to the
            last of these pages. A window that ends at another page is not among them.
    """

    page_num: int
    components: frozenset[ComponentType]


class StorageHooks(Protocol):
    """A storage tier as a cache sees it. The cache calls every method from its own thread."""

    def page_keys(
        self, tokens: Sequence[int], *, prior: str | None, namespace: str | None
    ) -> list[str]:
        """Return the key of each page of ``tokens``, which are whole pages.

        Args:
            tokens: token ids.
            prior: key of the page before them; None at the first token.
            namespace: sets apart requests with equal tokens; counts where ``prior`` is None, and
                later pages inherit it through ``prior``.
        """
        ...

    def hit_pages(self, keys: Sequence[str]) -> int:
        """Return how many leading pages storage has, on every rank that keeps the same cache."""
        ...

    def start_backup(self, backup: NodeBackup) -> None:
        """Start storing pages that are on the host; their slots stay as they are meanwhile."""
        ...

    def finished_backups(self) -> list[int]:
        """Return the nodes whose backup ended, stored or not, since the last call."""
        ...

    def accepts(self, request_id: str, token_num: int) -> bool:
        """Return whether a prefetch of some tokens would be started now.

        A tier refuses what is shorter than its threshold, and what exceeds its rate limit.

        Raises:
            StorageError: a prefetch of that request is under way.
        """
        ...

    def start_prefetch(self, prefetch: Prefetch) -> bool:
        """Start fetching pages; return False when the tier refuses, and uses no slot then."""
        ...

    def is_fetching(self, request_id: str) -> bool:
        """Return whether a prefetch is under way: whether a thread may write to its slots."""
        ...

    def finish_prefetch(self, request_id: str, *, abort: bool) -> PrefetchResult | None:
        """Return what a prefetch brought, or None while the tier's policy lets it go on.

        With ``abort`` the prefetch ends now. After a result no thread writes to its slots, and the
        request id may be used again.
        """
        ...

    def reset(self) -> None:
        """End every backup and prefetch; no thread uses a host slot afterwards."""
        ...
