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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_the_first_gpu():
    assert get_device("cuda") is get_device("cuda:0")
    assert get_device("cuda:0").torch_device == torch.device("cuda", 0)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_second_gpu_is_another_device():
    device = get_device("cuda:1")
    assert device is get_device("cuda:1")
    assert device is not get_device("cuda")
    assert device.zeros((4,), torch.uint8).device == torch.device("cuda", 1)
    assert device.mapped(device.host_empty((4,), torch.uint8, pin_memory=True)).get_device() == 1


def test_gpu_that_is_not_there_raises():
    count = torch.cuda.device_count()
    said = f"^device: must be a visible GPU; expected an ordinal below {count}, got cuda:{count}$"
    with pytest.raises(ValueError, match=said):
        get_device(f"cuda:{count}")


@pytest.mark.parametrize("kind", ["tpu", "cpu:1", "sim:1", "auto:0", "cuda:", "cuda:x", "cuda:-1"])
def test_unknown_device_raises(kind):
    with pytest.raises(ValueError, match=r"^device: unknown kind; expected auto or cpu or sim or"):
        get_device(kind)
