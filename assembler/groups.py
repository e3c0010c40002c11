"""Process groups: objects with a rank and a size.

A ``torch.distributed.ProcessGroup`` satisfies :class:`ProcessGroup` as it is. A rank and a size are
never passed as two loose numbers: a pair can be dropped or swapped, an object cannot.
"""

from typing import Protocol, runtime_checkable

from typing_extensions import override


@runtime_checkable
class ProcessGroup(Protocol):
    """The part of ``torch.distributed.ProcessGroup`` that stacks use."""

    def rank(self) -> int:
        """Return this process's place in the group, from 0."""
        ...

    def size(self) -> int:
        """Return the number of processes in the group."""
        ...


class LocalGroup:
    """A process group that exists in one process only: identity, members and own place.

    Attributes:
        tag: the group's name; two groups may have the same members (``attn_cp``).
        ranks: global ranks of the members, in group order.
    """

    __slots__ = ("_rank", "ranks", "tag")

    def __init__(self, tag: str, ranks: tuple[int, ...], rank: int) -> None:
        """Describe a group; raise ValueError when ``rank`` is not a place in ``ranks``, from 0."""
        if not 0 <= rank < len(ranks):
            raise ValueError(
                f"{tag}: rank must be a place in the group; "
                f"expected 0 <= rank < {len(ranks)}, got {rank}"
            )
        self.tag = tag
        self.ranks = ranks
        self._rank = rank

    def rank(self) -> int:
        """Return this process's place in the group, from 0."""
        return self._rank

    def size(self) -> int:
        """Return the number of processes in the group."""
        return len(self.ranks)

    @override
    def __repr__(self) -> str:
        return f"LocalGroup(tag={self.tag!r}, ranks={self.ranks!r}, rank={self._rank!r})"
