"""Devices: the only way from the stacks to the hardware."""

from functools import cache

import torch

from assembler.accelerator.access import Access, Rows, rows_of, whole
from assembler.accelerator.base import Device, Event, Stream

__all__ = ["Access", "Device", "Event", "Rows", "Stream", "get_device", "rows_of", "whole"]

KINDS = ("auto", "cpu", "sim", "cuda")


def get_device(kind: str) -> Device:
    """Return this process's device of a kind; ``auto`` prefers a GPU to the simulation.

    Every call with the same kind returns the same object, because streams and pinned memory belong
    to one device object; whoever wants a certain schedule makes a ``SimDevice``. Asking for ``cpu``
    or ``sim`` neither imports our CUDA code nor initialises CUDA.

    Args:
        kind: ``auto``, ``cpu``, ``sim`` or ``cuda``.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"device: unknown kind; expected {' or '.join(KINDS)}, got {kind}")
    if kind == "auto":
        return _device("cuda" if torch.cuda.is_available() else "sim")
    return _device(kind)


@cache
def _device(kind: str) -> Device:
    if kind == "cuda":
        from assembler.accelerator.cuda import CudaDevice

        return CudaDevice(ordinal=0)
    if kind == "sim":
        from assembler.accelerator.sim import SimDevice, default_schedule

        return SimDevice(schedule=default_schedule(), capacity_bytes=None, raise_races=False)
    from assembler.accelerator.cpu import CpuDevice

    return CpuDevice()
