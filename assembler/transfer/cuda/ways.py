"""The ways over PCIe, and the choice of one for a group of rows, from its geometry alone."""

from dataclasses import dataclass
from enum import Enum

from assembler.names import Direction

# A copy engine moves runs of 1 MB as fast as one large copy, and runs of 42 kB in the order of host
# memory at 0.98. But each run costs the host 0.7 microseconds, in which an H200 moves 38 kB. A
# kernel in host memory comes to 0.94 (backup) and 0.92 (load) with one launch.
_LONG_RUN_BYTES = 1 << 20
_FEWEST_RUN_BYTES = 32 << 10
# Shorter blocks of host memory are not worth a way through device memory, nor are small groups.
_FEWEST_BLOCK_BYTES = 256 << 10
_FEWEST_STAGED_BYTES = 32 << 20


class Way(Enum):
    """A way of rows between device memory and host memory."""

    # Copy engines move runs that are contiguous on both sides.
    ENGINE = "engine"
    # A kernel gathers rows in device memory, and a copy engine moves the blocks of host memory.
    STAGED = "staged"
    # A kernel reads or writes host memory in place.
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveGeometry:
    """Geometry of a group of rows in one operation, from which its way follows.

    Attributes:
        direction: the direction.
        bytes: all bytes.
        run_bytes: bytes of a run that is contiguous on both sides, on the average; None where the
            host does not know the rows.
        block_bytes: bytes of a block of host memory, all planes and layers that join included, on
            the average; None where the host does not know its rows, or they do not join.
    """

    direction: Direction
    bytes: int
    run_bytes: float | None
    block_bytes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WayLimits:
    """Limits of sizes, by which a backend chooses ways.

    Attributes:
        engine_bytes: shortest runs that go to the copy engine.
        block_bytes: shortest blocks of host memory that are staged.
        staged_bytes: fewest bytes of a group that is staged.
    """

    engine_bytes: int
    block_bytes: int
    staged_bytes: int


# With one launch the host is free for the next operation.
KERNEL_LIMITS = WayLimits(
    engine_bytes=_LONG_RUN_BYTES,
    block_bytes=_FEWEST_BLOCK_BYTES,
    staged_bytes=_FEWEST_STAGED_BYTES,
)
# Copy engines leave all multiprocessors to a running model.
DIRECT_LIMITS = WayLimits(
    engine_bytes=_FEWEST_RUN_BYTES,
    block_bytes=_FEWEST_BLOCK_BYTES,
    staged_bytes=_FEWEST_STAGED_BYTES,
)


def choose_way(geometry: MoveGeometry, limits: WayLimits) -> Way:
    """Return the way of a group of rows."""
    run_bytes, block_bytes = geometry.run_bytes, geometry.block_bytes
    if is_long(run_bytes):
        return Way.ENGINE
    # All layers of a backup are there; those of a load arrive one after the other.
    is_large = geometry.direction is Direction.BACKUP and geometry.bytes >= limits.staged_bytes
    if is_large and block_bytes is not None and block_bytes >= limits.block_bytes:
        return Way.STAGED
    if run_bytes is not None and run_bytes >= limits.engine_bytes:
        return Way.ENGINE
    return Way.KERNEL


def is_long(run_bytes: float | None) -> bool:
    """Return whether runs go to the copy engine, whatever the backend."""
    return run_bytes is not None and run_bytes >= _LONG_RUN_BYTES
