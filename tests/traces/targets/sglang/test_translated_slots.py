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


def test_slots_of_a_pool_with_fewer_rows_than_slots_are_mirrored_within_its_slots():
    pool = Pool()  # its size is 12, and 16 slots number its rows
    entry = SimpleNamespace(name=SimpleNamespace(value="kv"), device_pool=pool)
    stack = SimpleNamespace(group=SimpleNamespace(entries=[entry]), page_size=4)
    transfers = Transfers(pool)

    copies = TranslatedCopies(
        stack, device=SimpleNamespace(synchronize=lambda: None), transfers=transfers
    )
    copies.run()

    assert transfers.translated == [12, 13, 14, 15]
    assert pool.translate_rows is None
