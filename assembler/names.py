"""Closed sets of names; the values are the strings of sglang 0.5.12 (``hicache_storage.py``)."""

from enum import StrEnum


class PoolName(StrEnum):
    """A pool in a host pool group; ``KV`` is the usual anchor, the others are sidecars."""

    KV = "kv"
    MAMBA = "mamba"
    INDEXER = "indexer"
    SWA = "swa"
    DRAFT = "draft"


class HostLayout(StrEnum):
    """Order of the axes in a host buffer; exact shapes stand with each host pool."""

    LAYER_FIRST = "layer_first"
    PAGE_FIRST = "page_first"
    PAGE_FIRST_DIRECT = "page_first_direct"
    PAGE_HEAD = "page_head"


class IoBackend(StrEnum):
    """A transfer backend: address arithmetic without shape checks, or tensor slice copies."""

    KERNEL = "kernel"
    DIRECT = "direct"


class WritePolicy(StrEnum):
    """The moment when a device page is backed up to the host."""

    WRITE_THROUGH = "write_through"
    WRITE_THROUGH_SELECTIVE = "write_through_selective"
    WRITE_BACK = "write_back"


class PoolHitPolicy(StrEnum):
    """The pages of a prefix that a pool needs: every one, or only the last ones."""

    ALL_PAGES = "all_pages"
    TRAILING_PAGES = "trailing_pages"


class ComponentType(StrEnum):
    """A part of the cache that owns slots of its own."""

    FULL = "full"
    SWA = "swa"
    MAMBA = "mamba"


class Direction(StrEnum):
    """Backup is device to host, load is host to device."""

    BACKUP = "backup"
    LOAD = "load"
