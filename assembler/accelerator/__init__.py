"""Devices: the only way from the stacks to the hardware."""

from functools import cache
from typing import Literal

import torch

from assembler.accelerator.base import Device, Event, Stream

__all__ = ["Device", "Event", "Stream", "get_device"]


def get_device(kind: Literal["auto", "cpu", "cuda"]) -> Device:
    """Return this process's device of a kind; ``auto`` prefers a GPU.

    Every call with the same kind returns the same object, because streams and pinned memory belong
    to one device object. Asking for ``cpu`` neither imports our CUDA code nor initialises CUDA.
    """
    if kind == "auto":
        return _device("cuda" if torch.cuda.is_available() else "cpu")
    return _device(kind)


@cache
def _device(kind: Literal["cpu", "cuda"]) -> Device:
    if kind == "cuda":
        from assembler.accelerator.cuda import CudaDevice

        return CudaDevice(ordinal=0)
    from assembler.accelerator.cpu import CpuDevice

    return CpuDevice()
