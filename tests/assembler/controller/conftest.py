import pytest

from tests.assembler.delayed import DelayedDevice


@pytest.fixture
def delayed():
    return DelayedDevice()
