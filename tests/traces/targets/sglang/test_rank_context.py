"""Process groups of a rank, also those that a release has destroyed."""

import pytest
import torch

from traces.targets.sglang.rank_context import ranks_of_group


@pytest.fixture
def group(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield torch.distributed.new_group([0], backend="gloo")
    torch.distributed.destroy_process_group()


def test_a_group_has_ranks_until_it_is_destroyed(group):
    assert ranks_of_group(group) == (0,)
    torch.distributed.destroy_process_group(group)
    assert ranks_of_group(group) == ()
