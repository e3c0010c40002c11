"""Simulated accelerator: CUDA's ordering rules without a GPU, under every schedule they allow."""

from traces.simulator.device import SimDevice
from traces.simulator.races import Accessor, DetectedRace
from traces.simulator.schedule import ReplayedSchedule, Schedule, SchedulePolicy, default_schedule

__all__ = [
    "Accessor",
    "DetectedRace",
    "ReplayedSchedule",
    "Schedule",
    "SchedulePolicy",
    "SimDevice",
    "default_schedule",
]
