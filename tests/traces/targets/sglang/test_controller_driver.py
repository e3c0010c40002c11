"""Driver of a controller: it knows how many host slots its backups took."""

from types import SimpleNamespace

import torch

from traces.targets.sglang.controller_driver import ControllerDriver

PAGE = 4


class Controller:
    """Takes every node; host slots are as many as device slots."""

    def write(self, device_indices, node_id):
        return torch.arange(len(device_indices))


def test_host_slots_of_all_backups_are_counted():
    stack = SimpleNamespace(
        controller=Controller(),
        group=None,
        sidecars=(),
        full_allocator=SimpleNamespace(size=16),
        page_size=PAGE,
    )
    driver = ControllerDriver(stack)
    assert driver.host_slots == {}

    for slots in (torch.arange(4, 12), torch.arange(12, 16)):
        driver.write({"KV": slots})

    assert driver.host_slots == {"KV": 12}
