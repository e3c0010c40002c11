"""Data buffers of a pool."""

from types import SimpleNamespace

import torch

from traces.targets.native.rows import tensors_of


def test_buffers_come_by_name_whichever_was_made_first():
    first, second = torch.zeros(1), torch.ones(1)
    pool = SimpleNamespace(v_buffer=[second], _own=first, k_buffer=[first], label="x")

    assert [tensor.item() for tensor in tensors_of(pool)] == [0.0, 1.0]
