"""Simulated accelerator: CUDA's ordering rules without a GPU, under every schedule they allow."""

from traces.simulator.device import SimDevice
from traces.simulator.races import Accessor, Race
from traces.simulator.schedule import ReplayedSchedule, Schedule, SchedulePolicy, default_schedule

__all__ = [
    "Accessor",
    "Race",
    "ReplayedSchedule",
    "Schedule",
    "SchedulePolicy",
    "SimDevice",
    "default_schedule",
]
