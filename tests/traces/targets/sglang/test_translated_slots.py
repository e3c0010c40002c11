"""Pools whose slots are translated: which attributes are found, and what the function does."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Optional

import pytest
import torch

from traces.targets.common.planes import SlotDomain
from traces.targets.sglang.translated_slots import (
    TranslatedCopies,
    mirrored,
    translation_attributes,
)


class Pool:
    translate_rows: Optional[Callable[[torch.Tensor], torch.Tensor]] = None  # noqa: UP045
    on_free: Optional[Callable[[int], None]] = None  # noqa: UP045
    size = 12


class TranslatedPool(Pool):
    translate_rows = staticmethod(lambda slots: slots)


def test_an_attribute_for_a_function_of_slots_is_found_by_its_annotation():
    assert list(translation_attributes(Pool())) == ["translate_rows"]


@pytest.mark.parametrize("pool", [TranslatedPool(), object()])
def test_a_pool_that_translates_already_or_never_has_none(pool):
    assert list(translation_attributes(pool)) == []


def test_pages_are_mirrored_and_slots_keep_their_place_in_a_page():
    slots = torch.tensor([4, 5, 6, 7, 12])

    translated = mirrored(4, 4)(slots)

    assert translated.tolist() == [8, 9, 10, 11, 0]
    assert mirrored(4, 4)(translated).tolist() == slots.tolist()


class Transfers:
    """Keeps what a pool translates slots to while they are backed up."""

    def __init__(self, pool):
        self.pool = pool
        self.translated = []

    def domain_of(self, pool):
        return SlotDomain(name=pool, slot_num=16, page_size=4)

    def take(self, *, pages):
        return {"KV": torch.arange(4, 4 + 4 * pages)}

    def write(self, slots):
        self.translated += self.pool.translate_rows(slots["KV"]).tolist()
        return slots["KV"], {}

    def load(self, host, own):
        return {"KV": torch.arange(16, 20)}

    def finish_writing(self):
        """Nothing is on its way."""

    start_loading = finish_loading = finish_writing

    def return_slots(self, slots):
        """Any slot is there again."""


@pytest.mark.parametrize(
    ("size", "groups", "translated"),
    [
        (16, "tp1", [12, 13, 14, 15]),
        (8, "tp1", [12, 13, 14, 15]),
        (8, "tp8dcp2", [4, 5, 2, 3]),
        (16, "tp8dcp2", [12, 13, 14, 15]),
    ],
    ids=["a row for every slot", "for two slots", "for those of one of two ranks", "for all ranks"],
)
def test_slots_are_mirrored_among_those_that_a_pool_is_asked_for(size, groups, translated):
    """A pool is asked for slots; one that is spread over ranks for those of its own rank."""
    pool = Pool()
    pool.size = size
    entry = SimpleNamespace(name=SimpleNamespace(value="kv"), device_pool=pool)
    stack = SimpleNamespace(
        group=SimpleNamespace(entries=[entry]), scenario=SimpleNamespace(groups=groups)
    )
    transfers = Transfers(pool)

    copies = TranslatedCopies(
        stack, device=SimpleNamespace(synchronize=lambda: None), transfers=transfers
    )
    copies.run()

    assert transfers.translated == translated
    assert pool.translate_rows is None
