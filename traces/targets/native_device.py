"""Devices by name, and what a simulated one found."""

from assembler.accelerator import Device, get_device
from assembler.accelerator.sim import Schedule, SchedulePolicy, SimDevice, default_schedule


class StageError(Exception):
    """The stack did something that no stack may do, whatever its configuration."""


def open_device(name: str) -> Device:
    """Return the device of a name; a simulated one is new each time, its races are its own.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` for one of several GPUs, ``sim``, or
            ``sim:POLICY:SEED`` for a schedule.

    Raises:
        ValueError: there is no such device.
    """
    kind, *schedule = name.split(":")
    if kind == "sim" and schedule:
        policy, _, seed = ":".join(schedule).partition(":")
        if policy not in list(SchedulePolicy) or not seed.isdecimal():
            policies = "|".join(SchedulePolicy)
            raise ValueError(f"device: expected sim:{policies}:SEED, got {name}")
        return _simulated(Schedule(seed=int(seed), policy=SchedulePolicy(policy)))
    device = get_device(name)
    return _simulated(default_schedule()) if isinstance(device, SimDevice) else device


def _simulated(schedule: Schedule) -> Device:
    return SimDevice(schedule=schedule, capacity_bytes=None, raise_races=False)


def check_races(device: Device) -> None:
    """Raise when a simulated device saw two accesses that nothing orders.

    Raises:
        StageError: the first race, with both operations and the missing edge.
    """
    if isinstance(device, SimDevice) and device.races:
        raise StageError(f"race: {device.races[0]}")
