from collections.abc import Iterator

import pytest
import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from traces.simulator import SimDevice, default_schedule
from traces.targets.sglang import shims


@pytest.fixture
def device() -> SimDevice:
    return SimDevice(schedule=default_schedule(), capacity_bytes=None, raise_races=False)


@pytest.fixture
def installed(device: SimDevice) -> Iterator[shims.Shims]:
    installed = shims.install(device)
    yield installed
    installed.remove()


@pytest.fixture
def peer() -> Iterator[torch.distributed.ProcessGroup | None]:
    """Yield a group of two ranks, whose other one has whatever this one has."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield torch.distributed.group.WORLD
    torch.distributed.destroy_process_group()
