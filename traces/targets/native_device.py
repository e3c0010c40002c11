"""Devices by name, and what a simulated one found."""

from assembler.accelerator import Device, get_device
from assembler.accelerator.sim import Schedule, SchedulePolicy, SimDevice, default_schedule


class StageError(Exception):
    """The stack did something that no stack may do, whatever its configuration."""


def open_device(name: str) -> Device:
    """Return the device of a name; a simulated one is new each time, its races are its own.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``sim`` or ``sim:POLICY:SEED`` for a schedule.

    Raises:
        ValueError: there is no such device.
    """
    kind, *schedule = name.split(":")
    device = get_device(kind)
    if not isinstance(device, SimDevice):
        if schedule:
            raise ValueError(f"device: only sim takes a schedule; expected {kind}, got {name}")
        return device
    chosen = default_schedule()
    if schedule:
        policy, seed = schedule
        chosen = Schedule(seed=int(seed), policy=SchedulePolicy(policy))
    return SimDevice(schedule=chosen, capacity_bytes=None, raise_races=False)


def check_races(device: Device) -> None:
    """Raise when a simulated device saw two accesses that nothing orders.

    Raises:
        StageError: the first race, with both operations and the missing edge.
    """
    if isinstance(device, SimDevice) and device.races:
        raise StageError(f"race: {device.races[0]}")
