"""The simulated accelerator: CUDA's rules of order without a GPU, and everything they allow."""

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
