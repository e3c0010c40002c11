"""Devices: the only way from the stacks to the hardware."""

import re
from functools import cache

import torch

from assembler.accelerator.access import Access, Rows, rows_of, whole
from assembler.accelerator.base import Device, Event, Stream
from assembler.accelerator.threads import Flag, HandOverQueue, HostThread, Threads

__all__ = [
    "Access",
    "Device",
    "Event",
    "Flag",
    "HandOverQueue",
    "HostThread",
    "Rows",
    "Stream",
    "Threads",
    "get_device",
    "rows_of",
    "whole",
]

KINDS = ("auto", "cpu", "sim", "cuda", "cuda:N")

_CUDA = re.compile(r"cuda(?::([0-9]+))?")


def get_device(kind: str) -> Device:
    """Return this process's device of a kind; ``auto`` prefers a GPU to the simulation.

    Every call with the same kind returns the same object, because streams and pinned memory belong
    to one device object; whoever wants a certain schedule makes a ``SimDevice``. Asking for ``cpu``
    or ``sim`` neither imports our CUDA code nor initialises CUDA.

    Args:
        kind: ``auto``, ``cpu``, ``sim``, ``cuda``, or ``cuda:N`` for one of several GPUs by its
            ordinal among the visible ones. ``cuda`` is ``cuda:0``.

    Raises:
        ValueError: there is no such kind, or no such GPU on this machine.
    """
    if kind == "auto":
        return _cuda(0) if torch.cuda.is_available() else _host("sim")
    if kind in ("cpu", "sim"):
        return _host(kind)
    asked = _CUDA.fullmatch(kind)
    if asked is None:
        raise ValueError(f"device: unknown kind; expected {' or '.join(KINDS)}, got {kind}")
    ordinal = asked.group(1)
    return _cuda(0 if ordinal is None else int(ordinal))


@cache
def _host(kind: str) -> Device:
    if kind == "sim":
        from assembler.accelerator.sim import SimDevice, default_schedule

        return SimDevice(schedule=default_schedule(), capacity_bytes=None, raise_races=False)
    from assembler.accelerator.cpu import CpuDevice

    return CpuDevice()


@cache
def _cuda(ordinal: int) -> Device:
    visible = torch.cuda.device_count()
    if ordinal >= visible:
        raise ValueError(
            f"device: must be a visible GPU; expected an ordinal below {visible}, "
            f"got cuda:{ordinal}"
        )
    from assembler.accelerator.cuda import CudaDevice

    return CudaDevice(ordinal=ordinal)
