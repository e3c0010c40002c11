"""Devices by name."""

import pytest
import torch

from assembler.device import get_device
from traces.simulator import SchedulePolicy
from traces.targets.common.runtime import open_device


def test_cpu_is_the_one_of_the_process():
    assert open_device("cpu") is get_device("cpu")


def test_simulation_is_new_each_time():
    assert open_device("sim").kind == "sim"
    assert open_device("sim") is not open_device("sim")


def test_simulation_keeps_its_tensors_in_host_memory():
    assert open_device("sim").torch_device == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_auto_is_the_simulation_without_a_gpu():
    assert open_device("auto").kind == "sim"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_is_cuda_with_a_gpu():
    assert open_device("auto") is get_device("cuda")


def test_schedule_of_a_simulation_is_the_one_named():
    schedule = open_device("sim:random:7").schedule
    assert (schedule.policy, schedule.seed) == (SchedulePolicy.RANDOM, 7)


def test_gpu_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"^device: must be a visible GPU; .*, got cuda:64$"):
        open_device("cuda:64")


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_gpu_is_chosen_by_its_ordinal():
    assert open_device("cuda:1") is get_device("cuda:1")


@pytest.mark.parametrize(
    "name", ["cpu:random:7", "cuda:random:7", "sim:hasty:7", "tpu", "auto:0", "cpu:1"]
)
def test_name_that_means_nothing_is_refused(name):
    with pytest.raises(ValueError, match=r"unknown kind|expected sim:latest"):
        open_device(name)
