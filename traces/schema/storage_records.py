"""Records of the storage tier: accesses to single pages, and what a prefetch brought."""

from typing import Literal, TypeAlias

from traces.schema.record import Record

StorageOperation: TypeAlias = Literal[
    "open", "query", "store", "fetch", "write", "read", "refuse", "misuse", "clear", "close"
]


class StorageAccess(Record, frozen=True, tag_field="event", tag="storage"):
    """An access to the storage tier: it was opened, or one page of one pool was accessed.

    Attributes:
        operation: ``open``; ``query``: is the page there; ``store``; ``fetch``: into host memory;
            ``write``, ``read``: a place in a file that holds many pages, whose keys are kept
            elsewhere; ``refuse``: what was asked does not fit the pool, or the backend cannot be
            opened; ``misuse``: the client of a backend was handed memory or keys that it must not
            be; ``clear``: every page is removed; ``close``: it is used no more.
        pool: pool name, ``KV``; empty where the storage itself is opened, and where a backend knows
            keys only.
        key: of the page, or its place in the file; long hashes are cut to 16 hex digits, a random
            one is an asterisk; for ``open`` what sets this rank's keys apart from those of others,
            what a backend reads off the pool, or the memory that its client registers; for a
            backend that is not opened, and for ``misuse``, the reason.
        bytes: of the page, or of the memory; 0 for settings, and where there is no such page.
        backend: name under which the package registers the backend, whose keys are then complete;
            empty for the scenario's own backend, which adds nothing to the keys it is given.
        sha256: head of the SHA-256 of the page's bytes (16 hex digits); empty without a page, and
            for one with which a backend checks a connection.
    """

    step: str
    operation: StorageOperation
    pool: str
    key: str
    bytes: int
    backend: str
    sha256: str


class StorageMatch(Record, frozen=True, tag_field="digest", tag="storage_match"):
    """The tokens that a prefetch from storage found, and those that arrived on the host.

    Attributes:
        backend: as in :class:`StorageAccess`.
        sequence: which tokens were asked for: ``first``.
        phase: what was done to storage before: ``whole`` for nothing.
        asked: number of tokens asked for.
        available: tokens up to which storage can hand out the pages of every pool; None where that
            is not known.
        hits: tokens that storage has for every pool, as the package counts them; None where it
            does not say.
        arrived: tokens that the package keeps on the host.
        pools: pages of each pool beside the anchor that arrived, or tokens that a tree then finds,
            by pool name; ``KV found``: pages of the anchor that the operation's result counts.
        is_over: whether the package counts the prefetch as over when it is asked once, while
            storage is held back where the phase says so.
        equal: whether every row that arrived and was loaded has the bytes that were stored; None
            where nothing was loaded.
    """

    step: str
    backend: str
    sequence: str
    phase: str
    asked: int
    available: int | None
    hits: int | None
    arrived: int
    pools: dict[str, int]
    is_over: bool
    equal: bool | None
