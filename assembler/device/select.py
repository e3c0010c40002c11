"""The devices of this process, by name."""

import re
from functools import cache

import torch

from assembler.device.base import Device

KINDS = ("cpu", "cuda", "cuda:N")

_CUDA = re.compile(r"cuda(?::([0-9]+))?")


def get_device(kind: str) -> Device:
    """Return this process's device of a kind.

    Every call with the same kind returns the same object, because streams and pinned memory belong
    to one device object. Asking for ``cpu`` neither imports our CUDA code nor initialises CUDA.

    Args:
        kind: ``cpu``, ``cuda``, or ``cuda:N`` for one of several GPUs by its ordinal among the
            visible ones. ``cuda`` is ``cuda:0``.

    Raises:
        ValueError: there is no such kind, or no such GPU on this machine.
    """
    if kind == "cpu":
        return _cpu()
    asked = _CUDA.fullmatch(kind)
    if asked is None:
        raise ValueError(f"device: unknown kind; expected {' or '.join(KINDS)}, got {kind}")
    ordinal = asked.group(1)
    return _cuda(0 if ordinal is None else int(ordinal))


@cache
def _cpu() -> Device:
    from assembler.device.cpu import CpuDevice

    return CpuDevice()


@cache
def _cuda(ordinal: int) -> Device:
    visible = torch.cuda.device_count()
    if ordinal >= visible:
        rule, expected = "must be a visible GPU", f"an ordinal below {visible}"
        raise ValueError(f"device: {rule}; expected {expected}, got cuda:{ordinal}")
    from assembler.device.cuda import CudaDevice

    return CudaDevice(ordinal=ordinal)
