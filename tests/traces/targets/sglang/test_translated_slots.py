"""Pools whose slots are translated: which attributes are found, and what the function does."""

from collections.abc import Callable
from typing import Optional

import pytest
import torch

from traces.targets.sglang.translated_slots import mirrored, translation_attributes


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
