from collections.abc import Iterator

import pytest

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
