"""Slots that tests move, and how they read what arrived."""

from tests.assembler.small_models import buffers_of, rows_as_bytes

SOURCE, TARGET = [4, 5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17, 18, 19]


def take(params, slots):
    """Let the allocator hand out exactly ``slots``, its first ones."""
    taken = params.token_to_kv_pool_allocator.alloc(len(slots))
    assert taken.tolist() == slots
    return taken


def read_all(device, pool):
    """Read every row on the current stream, after waiting for each layer as attention does."""
    rows = {}
    for (plane, layer), buffer in buffers_of(pool).items():
        pool.wait_for_layer(pool.start_layer + layer)
        rows[plane, layer] = device.read(rows_as_bytes(buffer))
    return rows
