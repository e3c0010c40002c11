import pytest
import torch

from assembler.device import get_device
from assembler.device.cpu import CpuDevice


def test_cpu_is_one_device():
    assert isinstance(get_device("cpu"), CpuDevice)
    assert get_device("cpu") is get_device("cpu")


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


@pytest.mark.parametrize("kind", ["tpu", "cpu:1", "sim", "auto", "cuda:", "cuda:x", "cuda:-1"])
def test_unknown_device_raises(kind):
    with pytest.raises(ValueError, match=r"^device: unknown kind; expected cpu or cuda or cuda:N"):
        get_device(kind)
