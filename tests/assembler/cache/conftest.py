"""Fixtures of caches: devices, and stores that hold named bytes."""

import pytest

from assembler.storage.files import FOLDER_VARIABLE
from tests.assembler.storage.stores import FailingBlobs
from traces.targets.common.runtime import open_device


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))


@pytest.fixture(params=["cpu", "sim"])
def device(request):
    return open_device(request.param)


@pytest.fixture
def blobs():
    return FailingBlobs()
