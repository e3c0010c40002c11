from collections.abc import Iterator

import pytest

from assembler.accelerator.sim import SimDevice, default_schedule
from traces.targets.sglang import standins


@pytest.fixture
def device() -> SimDevice:
    return SimDevice(schedule=default_schedule(), capacity_bytes=None, raise_races=False)


@pytest.fixture
def installed(device: SimDevice) -> Iterator[standins.Standins]:
    installed = standins.install(device)
    yield installed
    installed.remove()
