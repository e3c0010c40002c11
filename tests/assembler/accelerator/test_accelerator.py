import pytest
import torch

from assembler.accelerator import get_device
from assembler.accelerator.cpu import CpuDevice


def test_cpu_is_one_device():
    assert isinstance(get_device("cpu"), CpuDevice)
    assert get_device("cpu") is get_device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_auto_is_the_simulation_without_a_gpu():
    assert get_device("auto") is get_device("sim")
    assert get_device("auto").kind == "sim"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_is_cuda_with_a_gpu():
    assert get_device("auto") is get_device("cuda")
    assert get_device("auto").kind == "cuda"


def test_unknown_device_raises():
    with pytest.raises(ValueError, match=r"^device: unknown kind; expected auto or cpu or sim or"):
        get_device("tpu")
