"""A small package, and changes of it that depend on each other or not."""

BASE = {
    "sizes.py": '''\
"""Sizes of pools."""

ROW = 656


def row_bytes(planes):
    """Return the bytes of a row."""
    # A row holds all planes.
    return ROW * planes


def host_slots(ratio, slots):
    return ratio * slots


def spare(number):
    return number + 1
''',
    "stack.py": '''\
"""The stack of a pool."""

from small.sizes import host_slots, row_bytes


def build(ratio):
    """Return what a stack consists of."""
    return {
        "bytes": row_bytes(planes=1),
        "slots": host_slots(ratio=ratio, slots=64),
    }
''',
}

WIDER_ROW = ("sizes.py", "return ROW * planes", "return ROW * planes * 2")
FEWER_SLOTS = ("stack.py", "slots=64", "slots=32")
RENAMED = (
    ("sizes.py", "def row_bytes(planes):", "def row_bytes(plane_num):"),
    ("sizes.py", "ROW * planes", "ROW * plane_num"),
    ("stack.py", "row_bytes(planes=1)", "row_bytes(plane_num=1)"),
)
NOT_RUN = ("sizes.py", "return number + 1", "return number + 2")
