"""A brute-force model of a cache: its pages one by one, by the tokens that lead to them.

It knows nothing of nodes: the pages of a tree are read out, and everything that the cache says is
computed again from them. Rows hold numbers that follow from the tokens, so that a page in a wrong
place, or of a wrong prefix, has other bytes.
"""

import zlib
from dataclasses import dataclass

import torch

from tests.assembler.cache.cache_steps import FULL, MAMBA, SWA, device_pools
from tests.assembler.small_models import PAGE, buffers_of
from traces.targets.native.explore.host_rows import host_content


@dataclass
class Page:
    """Slots of one page by component, and whether its node is locked."""

    device: dict
    host: dict
    is_locked: bool


def read_pages(cache):
    """Return every page of a cache by (root, tokens up to its end)."""
    pages = {}
    for node in cache.nodes():
        path = node.path()
        tokens = [token for part in path for token in tokens_of(part)]
        before = len(tokens) - len(node)
        for end in range(before + PAGE, len(tokens) + 1, PAGE):
            sides = [_part_of(side, end - before, len(node)) for side in (node.device, node.host)]
            place = (path[0].parent, tuple(tokens[:end]))
            assert place not in pages, f"two nodes have the tokens {tokens[:end]}"
            pages[place] = Page(*sides, is_locked=node.lock_ref > 0)
    return pages


def tokens_of(node):
    return torch.frombuffer(bytearray(node.key), dtype=torch.int64).tolist()


def _part_of(side, end, length):
    """Return the slots that the page before token ``end`` of a node has."""
    found = {}
    for component, slots in side.items():
        if component is MAMBA:
            if end == length:
                found[MAMBA] = slots.tolist()
            continue
        skipped = length - len(slots)
        if end - PAGE >= skipped:
            found[component] = slots[end - PAGE - skipped : end - skipped].tolist()
    return found


def longest_hits(pages, root, tokens, *, components, window):
    """Return the tokens that the device serves, and those that both sides serve."""
    device = both = 0
    for end in range(PAGE, len(tokens) + 1, PAGE):
        path = [pages.get((root, tuple(tokens[:at]))) for at in range(PAGE, end + 1, PAGE)]
        if None in path:
            break
        if _serves([page.device for page in path], components, window):
            device = end
        if _serves([{**page.host, **page.device} for page in path], components, window):
            both = end
    return device, both


def _serves(path, components, window):
    seen = -(-window // PAGE)
    return (
        all(FULL in page for page in path)
        and (SWA not in components or all(SWA in page for page in path[-seen:]))
        and (MAMBA not in components or MAMBA in path[-1])
    )


def longest_arrival(stored, namespace, tokens, *, depth, components, window):
    """Return the ends of the pages behind ``depth`` tokens that storage can restore, in order.

    ``stored`` are the components of each page by (namespace, tokens up to its end).
    """
    pages = [
        stored.get((namespace, tuple(tokens[:end])), set())
        for end in range(PAGE, len(tokens) + 1, PAGE)
    ]
    first, longest, seen = depth // PAGE, 0, -(-window // PAGE)
    for num in range(first + 1, len(pages) + 1):
        if FULL not in pages[num - 1]:
            break
        window_pages = pages[max(0, num - seen) : num]
        if (SWA not in components or all(SWA in page for page in window_pages)) and (
            MAMBA not in components or MAMBA in pages[num - 1]
        ):
            longest = num
    return [PAGE * num for num in range(first + 1, longest + 1)]


def seed(namespace, tokens):
    """Return the number that the rows of the last of some tokens hold."""
    return zlib.crc32(repr((namespace, tuple(tokens))).encode()) >> 1


def write_rows(params, component, slots, seeds):
    """Write the rows of some slots of a component, one number for each slot."""
    for pool, owner in device_pools(params):
        if owner is component:
            for (plane, layer), buffer in buffers_of(pool).items():
                unit = PAGE if plane == "index_k" else 1
                rows = _words(buffer)
                for slot, number in zip(
                    slots[unit - 1 :: unit], seeds[unit - 1 :: unit], strict=True
                ):
                    rows[slot // unit] = number ^ _place(plane, layer)


def check_device_rows(params, component, slots, seeds):
    """Expect the rows of some slots to hold their numbers."""
    for pool, owner in device_pools(params):
        if owner is component:
            for (plane, layer), buffer in buffers_of(pool).items():
                unit = PAGE if plane == "index_k" else 1
                rows = _words(buffer)[[slot // unit for slot in slots[unit - 1 :: unit]]]
                _expect(rows, seeds[unit - 1 :: unit], plane, layer)


def check_host_rows(cache, component, slots, seeds):
    """Expect the host rows of some slots to hold their numbers, in every pool on these slots."""
    entries = cache.host_pool_group.entry_map
    owners = {FULL: ("kv", "indexer"), SWA: ("swa",), MAMBA: ("mamba",)}
    for name in owners[component]:
        if name in entries:
            pool = entries[name].host_pool
            contents = iter(host_content(pool, torch.tensor(slots)))
            for plane in pool.planes:
                for layer in range(pool.layer_num):
                    rows = next(contents).view(torch.int32)
                    _expect(
                        rows, seeds[pool.slots_per_row - 1 :: pool.slots_per_row], plane.name, layer
                    )


def _words(buffer):
    return buffer.view(torch.uint8).view(buffer.shape[0], -1).view(torch.int32)


def _place(plane, layer):
    return zlib.crc32(f"{plane} {layer}".encode()) >> 8


def _expect(rows, seeds, plane, layer):
    wanted = torch.tensor([number ^ _place(plane, layer) for number in seeds], dtype=torch.int32)
    assert bool((rows == wanted.unsqueeze(1)).all()), f"{plane} of layer {layer}: wrong bytes"
