"""What a device is made of."""

import platform
import sys
from types import SimpleNamespace

import pytest

from tools.workers import hardware
from tools.workers.hardware import describe_hardware, driver_version

NAMES = ("NVIDIA H100", "NVIDIA H200")


@pytest.fixture
def gpus(monkeypatch):
    """A torch with two GPUs."""
    torch = SimpleNamespace(
        cuda=SimpleNamespace(device_count=lambda: 2, get_device_name=lambda number: NAMES[number]),
        version=SimpleNamespace(cuda="13.0"),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(hardware, "driver_version", lambda command: "570.1")
    return torch


@pytest.mark.parametrize(
    ("device", "name"),
    [("cuda", NAMES[0]), ("cuda:0", NAMES[0]), ("cuda:1", NAMES[1]), ("auto", NAMES[0])],
)
def test_gpu_is_named_with_driver_and_cuda(gpus, device, name):
    assert describe_hardware(device) == {
        "device": "cuda",
        "device_name": name,
        "driver": "570.1",
        "cuda": "13.0",
    }


def test_gpu_that_is_not_there_has_no_kind(gpus):
    assert describe_hardware("cuda:2")["device"] == ""
    gpus.cuda.device_count = lambda: 0
    assert describe_hardware("cuda")["device"] == ""


@pytest.mark.parametrize(
    ("device", "kind"), [("cpu", "cpu"), ("sim", "sim"), ("sim:random:1", "sim"), ("auto", "sim")]
)
def test_without_a_gpu_there_is_no_driver(gpus, device, kind):
    gpus.cuda.device_count = lambda: 0
    assert describe_hardware(device) == {
        "device": kind,
        "device_name": platform.machine(),
        "driver": "",
        "cuda": "",
    }


def test_driver_is_the_first_line_printed():
    program = "print('570.86.15\\n570.86.15')"
    assert driver_version((sys.executable, "-c", program)) == "570.86.15"


@pytest.mark.parametrize(
    "command",
    [
        ("/nowhere/nvidia-smi",),
        (sys.executable, "-c", "print('no driver'); raise SystemExit(9)"),
        (sys.executable, "-c", ""),
    ],
    ids=["absent", "failing", "silent"],
)
def test_driver_is_empty_where_nobody_knows_it(command):
    assert driver_version(command) == ""
