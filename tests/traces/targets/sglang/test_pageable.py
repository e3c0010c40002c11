"""Memory for pools of a release without a driver."""

import torch

from traces.targets.sglang.pageable import defined_content, pageable


def test_memory_of_any_content_is_cleared_in_the_block():
    before = torch.empty
    with defined_content():
        found = torch.empty((3, 2), dtype=torch.int16, device="cpu")
        row = torch.empty(4, memory_format=torch.contiguous_format)
    assert (found.tolist(), found.dtype) == ([[0, 0]] * 3, torch.int16)
    assert row.tolist() == [0.0] * 4
    assert torch.empty is before


def test_page_locked_memory_is_pageable_in_the_block():
    before = torch.tensor
    with pageable("tensor"):
        found = torch.tensor([3, 1], dtype=torch.int64, pin_memory=True)
    assert (found.tolist(), found.dtype, found.is_pinned()) == ([3, 1], torch.int64, False)
    assert torch.tensor is before
