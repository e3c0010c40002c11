"""Memory for pools of a release without a driver."""

import torch

from traces.targets.sglang.pageable import defined_content


def test_memory_of_any_content_is_cleared_in_the_block():
    before = torch.empty
    with defined_content():
        found = torch.empty((3, 2), dtype=torch.int16, device="cpu")
        row = torch.empty(4, memory_format=torch.contiguous_format)
    assert (found.tolist(), found.dtype) == ([[0, 0]] * 3, torch.int16)
    assert row.tolist() == [0.0] * 4
    assert torch.empty is before
