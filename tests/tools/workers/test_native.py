"""The worker's side: the assembler of one root, and nothing else."""

import sys
from pathlib import Path

import pytest

from tools.errors import ToolError
from tools.workers.hardware import read_provenance
from tools.workers.native import NativeWorker
from tools.workers.protocol import ListBuilders

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_assembler_of_another_root_is_refused(tmp_path):
    import assembler

    with pytest.raises(ToolError, match=r"^assembler: must come from the side run") as caught:
        NativeWorker(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert str(assembler.__file__) in str(caught.value)


def test_assembler_of_the_root_asked_for_is_accepted():
    worker = NativeWorker(ROOT)
    assert "build_kv_only_stack" in worker.list_builders(ListBuilders())


def test_provenance_on_cpu_names_versions_and_no_driver():
    found = read_provenance("cpu")
    assert found["device"] == "cpu"
    assert found["driver"] == ""
    assert found["cuda"] == ""
    names = {"device", "device_name", "driver", "cuda", "goldentrace", "python", "torch"}
    assert set(found) == names
