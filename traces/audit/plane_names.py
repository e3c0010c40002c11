"""Names of planes: the same rows go by other names in buffers, transfers and round trips."""

import re

PACKED_DRAFT = "packed"
"""Value of the axis ``draft`` where a draft's rows lie in the host pools of the target."""

_READ = ".read."
_TREE = "TREE."
_NUMBER = re.compile(r"\[(\d+)\]")
_TRAILING_NUMBER = re.compile(r"_\d+$")


def is_accessor_read(pool: str) -> bool:
    """Tell whether a round trip is one of reading through an accessor: ``KV.read.get_x``."""
    return _READ in pool


def is_tree_match(pool: str) -> bool:
    """Tell whether a round trip is what a tree found of a sequence: ``TREE.first_evicted``."""
    return pool.startswith(_TREE)


def split_accessor(pool: str) -> tuple[str, str]:
    """Return owner and accessor of such a round trip."""
    owner, _, accessor = pool.partition(_READ)
    return owner, accessor


def plane_name(name: str) -> str:
    """Return what a buffer's or transfer's name says about the kind of row.

    ``index_key_cache.buffer[2]``, ``device_k_buffers`` and ``k`` become ``buffer``, ``k``, ``k``.
    """
    last = _NUMBER.sub("", name).rpartition(".")[2].removeprefix("device_")
    last = last.removesuffix("s") if last.endswith("buffers") else last
    for suffix in ("_with_scale_buffer", "_buffer"):
        last = last.removesuffix(suffix)
    return last


def bracket_numbers(name: str) -> tuple[int, ...]:
    """Return the numbers in brackets of a buffer's name."""
    return tuple(int(number) for number in _NUMBER.findall(name))


def is_same_plane(moved: str, plane: str) -> bool:
    """Tell whether a transfer's plane is that of a round trip: ``conv_0`` is one of ``conv``."""
    short, want = plane_name(moved), plane_name(plane)
    return short == want or _TRAILING_NUMBER.sub("", short) == want


def names_rows_of(moved: str, buffer: str) -> bool:
    """Tell whether a transfer's plane can name rows of a device buffer.

    ``conv_buffer`` is no name of the buffer ``conv``: it is the host's own.
    """
    plane = _TRAILING_NUMBER.sub("", moved)
    attribute = _NUMBER.sub("", buffer).rpartition(".")[2]
    is_plain = not plane.endswith("_buffer")
    return plane == attribute or (is_plain and plane_name(plane) == plane_name(attribute))
