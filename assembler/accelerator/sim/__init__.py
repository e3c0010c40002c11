"""The simulated accelerator: CUDA's rules of order without a GPU, and everything they allow."""

from assembler.accelerator.sim.device import SimDevice
from assembler.accelerator.sim.races import Actor, Race
from assembler.accelerator.sim.schedule import (
    ReplayedSchedule,
    Schedule,
    SchedulePolicy,
    default_schedule,
)

__all__ = [
    "Actor",
    "Race",
    "ReplayedSchedule",
    "Schedule",
    "SchedulePolicy",
    "SimDevice",
    "default_schedule",
]
