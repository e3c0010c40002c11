"""Faults of releases: where they are looked for, and the operators that make them."""

from collections.abc import Mapping

from tools.mutation.generator import Operator
from tools.mutation.release import locks, ordering, pages, storage, wiring

ALL_KINDS = "all"
KINDS: Mapping[str, Operator] = {
    operator.__name__: operator
    for operator in (
        ordering.drop_wait,
        ordering.drop_fence,
        wiring.drop_registration,
        wiring.draft_none,
        wiring.drop_flag,
        storage.drop_key_component,
        storage.shorten_clamp,
        pages.swap_pointers,
        locks.release_lock_early,
        locks.never_release_lock,
        pages.page_offset,
        wiring.wrong_attribute,
    )
}
"""The kinds of faults of a release by name."""
