"""The census of slots, over pools that keep their own memory and pools that share it."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch

from traces.targets.sglang.slot_census import SlotCensus
from traces.targets.sglang.tree_ledger import CountedPool

PAGE, SLOTS = 2, 12


class Slots:
    def __init__(self) -> None:
        self.free_slots = torch.arange(1, SLOTS + 1)
        self.group: list[torch.Tensor] | None = None

    def available_size(self) -> int:
        return len(self.free_slots)

    def alloc(self, need: int) -> torch.Tensor:
        taken, self.free_slots = self.free_slots[:need], self.free_slots[need:]
        return taken.clone()

    def free(self, slots: torch.Tensor) -> None:
        if self.group is not None:
            self.group.append(self.own(slots))
        else:
            self.free_slots = torch.cat([self.free_slots, slots])

    def free_group_begin(self) -> None:
        self.group = []

    def free_group_end(self) -> None:
        freed, self.group = self.group, None
        for slots in freed or []:
            self.free(slots)

    def own(self, slots: torch.Tensor) -> torch.Tensor:
        return slots.clone()


class KeepsWhatIsFreed(Slots):
    def own(self, slots: torch.Tensor) -> torch.Tensor:
        return slots


class MovesWhatItHandedOut(Slots):
    """Hands out its list itself, and shifts the list in place when slots come back."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = self.free_slots

    def alloc(self, need: int) -> torch.Tensor:
        taken, self.free_slots = self.free_slots[:need], self.free_slots[need:]
        return taken

    def free(self, slots: torch.Tensor) -> None:
        super().free(slots)
        self.memory[0] = self.memory[-1]


def census(allocator: Slots) -> tuple[int, int]:
    pool = CountedPool(pool="KV", component="FULL", side="device", allocator=allocator, total=SLOTS)
    device = SimpleNamespace(pause_interception=nullcontext)
    stack = SimpleNamespace(page_size=PAGE, allocator=allocator, kvcache=None)
    stack.full_allocator = allocator
    [found] = SlotCensus(stack, pools=(pool,), device=device).run()  # type: ignore[arg-type]
    return found.total, found.free


def test_a_pool_with_memory_of_its_own_hands_every_slot_out_once():
    allocator = Slots()

    assert census(allocator) == (12, 12)
    assert sorted(allocator.free_slots.tolist()) == list(range(1, 13))


def test_a_pool_that_keeps_the_tensor_of_a_deferred_free_loses_its_slots():
    assert census(KeepsWhatIsFreed()) == (12, 10)


def test_a_pool_whose_list_is_what_it_handed_out_hands_a_slot_out_twice():
    assert census(MovesWhatItHandedOut()) == (12, 11)


def test_a_pool_with_too_few_pages_to_keep_any_is_counted_whole():
    allocator = Slots()
    allocator.free_slots = torch.tensor([7, 8])

    assert census(allocator) == (2, 2)


class WindowedSlots(Slots):
    """Two kinds of slots, and which of the second ones lie behind the first ones."""

    def __init__(self) -> None:
        super().__init__()
        self.swa_attn_allocator = Slots()
        self.mapping = torch.zeros(SLOTS + 1, dtype=torch.int64)

    def set_full_to_swa_mapping(self, slots: torch.Tensor, windows: torch.Tensor) -> None:
        self.mapping[slots] = windows

    def translate_loc_from_full_to_swa(self, slots: torch.Tensor) -> torch.Tensor:
        return self.mapping[slots]

    def free(self, slots: torch.Tensor) -> None:
        windows = self.mapping[slots]
        self.swa_attn_allocator.free(windows[windows > 0])
        self.forget(slots)
        super().free(slots)

    def forget(self, slots: torch.Tensor) -> None:
        self.mapping[slots] = 0


class RemembersWindows(WindowedSlots):
    def forget(self, slots: torch.Tensor) -> None:
        """Leave the mapping as it was."""


def windows(allocator: WindowedSlots) -> dict[str, tuple[int, int]]:
    device = SimpleNamespace(pause_interception=nullcontext)
    stack = SimpleNamespace(page_size=PAGE, allocator=allocator, kvcache=None)
    stack.full_allocator = allocator
    found = SlotCensus(stack, pools=(), device=device).run()  # type: ignore[arg-type]
    return {one.moment: (one.total, one.free) for one in found}


def test_a_free_slot_has_no_window():
    assert windows(WindowedSlots()) == {"freed": (12, 12), "freed together": (12, 12)}


def test_a_window_that_a_free_slot_keeps_shows():
    assert windows(RemembersWindows()) == {"freed": (12, 0), "freed together": (12, 0)}
