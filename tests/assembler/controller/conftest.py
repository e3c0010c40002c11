"""A folder of its own for the files of each test's storage."""

import pytest

from assembler.storage.files import FOLDER_VARIABLE


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path
