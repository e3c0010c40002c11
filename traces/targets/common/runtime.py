"""Devices by name, the simulated one included."""

import torch

from assembler.device import Device, get_device
from assembler.device.select import KINDS
from traces.simulator import Schedule, SchedulePolicy, SimDevice, default_schedule


def open_device(name: str) -> Device:
    """Return the device of a name; a simulated one is new each time, its races are its own.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:N`` for one of several GPUs, ``sim``, ``sim:POLICY:SEED``
            for a schedule, or ``auto``: a GPU where there is one, else ``sim``.

    Raises:
        ValueError: there is no such device.
    """
    kind, *schedule = name.split(":")
    if kind == "sim" and schedule:
        policy, _, seed = ":".join(schedule).partition(":")
        if policy not in list(SchedulePolicy) or not seed.isdecimal():
            policies = "|".join(SchedulePolicy)
            raise ValueError(f"device: expected sim:{policies}:SEED, got {name}")
        return _open_simulated(Schedule(seed=int(seed), policy=SchedulePolicy(policy)))
    if name == "auto":
        return open_device("cuda" if torch.cuda.is_available() else "sim")
    if name == "sim":
        return _open_simulated(default_schedule())
    if kind not in ("cpu", "cuda"):
        expected = " or ".join(("auto", "sim", *KINDS))
        raise ValueError(f"device: unknown kind; expected {expected}, got {name}")
    return get_device(name)


def _open_simulated(schedule: Schedule) -> Device:
    return SimDevice(schedule=schedule, capacity_bytes=None, raise_races=False)
