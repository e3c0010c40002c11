import numpy as np
import pytest

from assembler.names import Direction
from assembler.transfer.cuda.copier import PlannedGroup
from assembler.transfer.cuda.groups import RowGroup, RowShape
from assembler.transfer.cuda.ways import (
    DIRECT_LIMITS,
    KERNEL_LIMITS,
    MoveGeometry,
    Way,
    choose_way,
)
from assembler.transfer.rows import RowMap

BACKUP, LOAD = Direction.BACKUP, Direction.LOAD
KB, MB = 1 << 10, 1 << 20


def way(limits, direction, size, *, runs, blocks):
    geometry = MoveGeometry(direction=direction, bytes=size, run_bytes=runs, block_bytes=blocks)
    return choose_way(geometry, limits)


@pytest.mark.parametrize(
    ("direction", "size", "runs", "blocks", "kernel", "direct"),
    [
        # Pages of 42 kB in every layer, which no other page follows.
        (BACKUP, 300 * MB, 42 * KB, 42 * KB, Way.KERNEL, Way.ENGINE),
        (LOAD, 5 * MB, 42 * KB, 42 * KB, Way.KERNEL, Way.ENGINE),
        # Pages of 128 kB: each costs the host less time than the wire.
        (BACKUP, 300 * MB, 128 * KB, 128 * KB, Way.KERNEL, Way.ENGINE),
        (LOAD, 5 * MB, 128 * KB, 128 * KB, Way.KERNEL, Way.ENGINE),
        # Host memory has a page of all layers in one block, device memory has not.
        (BACKUP, 300 * MB, 656, 2500 * KB, Way.STAGED, Way.STAGED),
        (BACKUP, 300 * MB, 42 * KB, 2500 * KB, Way.STAGED, Way.STAGED),
        (BACKUP, 31 * MB, 656, 2500 * KB, Way.KERNEL, Way.KERNEL),
        (LOAD, 300 * MB, 656, 2500 * KB, Way.KERNEL, Way.KERNEL),
        (BACKUP, 300 * MB, 656, 255 * KB, Way.KERNEL, Way.KERNEL),
        # States of 2 MB lie in one block on both sides.
        (BACKUP, 300 * MB, 2 * MB, 2 * MB, Way.ENGINE, Way.ENGINE),
        (LOAD, 8 * MB, 2 * MB, 2 * MB, Way.ENGINE, Way.ENGINE),
        # The host knows its own slots alone, or none.
        (BACKUP, 300 * MB, None, 2500 * KB, Way.STAGED, Way.STAGED),
        (BACKUP, 300 * MB, None, None, Way.KERNEL, Way.KERNEL),
        (LOAD, 300 * MB, None, 2500 * KB, Way.KERNEL, Way.KERNEL),
    ],
)
def test_the_way_follows_from_the_geometry(direction, size, runs, blocks, kernel, direct):
    found = [
        way(limits, direction, size, runs=runs, blocks=blocks)
        for limits in (KERNEL_LIMITS, DIRECT_LIMITS)
    ]

    assert found == [kernel, direct]


@pytest.mark.parametrize(
    ("row_bytes", "strides", "first", "has_words"),
    [
        (8192, (8192, 8192), 0, True),
        (8196, (8200, 8200), 0, False),
        (8192, (8196, 8192), 0, False),
        (8192, (8192, 8192), 4, False),
    ],
)
def test_words_have_eight_bytes(row_bytes, strides, first, has_words):
    group = RowGroup(
        shape=RowShape(row_map=RowMap(), row_bytes=row_bytes, strides=strides, row_nums=(6, 6)),
        host=np.array([0], dtype=np.int64),
        device=np.array([first], dtype=np.int64),
    )

    assert PlannedGroup(group, LOAD).has_words == has_words
