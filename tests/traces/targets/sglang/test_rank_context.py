"""What a rank is told: its process groups, and the settings of its storage."""

from types import SimpleNamespace

import pytest
import torch

from traces.targets.sglang.rank_context import ranks_of_group, storage_settings


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


@pytest.mark.parametrize(
    ("layout", "write_policy", "opens_storage", "no_copy"),
    [
        ("page_first", "write_through", True, 1),
        ("page_first", "write_back", True, None),
        ("layer_first", "write_through", True, None),
        ("page_first", "write_through", False, None),
    ],
)
def test_storage_gets_slots_where_a_page_is_one_piece(layout, write_policy, opens_storage, no_copy):
    scenario = SimpleNamespace(
        layout=layout, write_policy=write_policy, opens_storage=opens_storage
    )
    settings = storage_settings(scenario)
    assert settings.get("interface_v1") == no_copy
    assert ("class_name" in settings) is opens_storage
    assert settings["sentinel_option"] == 97
