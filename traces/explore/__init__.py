"""Random traffic over every builder, against a plain model, under random schedules and faults.

A *traffic configuration* is a scenario with a seed and a scheduling policy. Hypothesis draws the
*steps* of the traffic; a *subject* applies them to a real stack and compares it with a model. A
difference is a *violation*, which is shrunk and kept as a *replay*. Nothing in this package imports
a target; only :mod:`traces.explore.traffic_machine` imports Hypothesis.
"""

from traces.explore.config import POLICIES, TrafficConfig, draw_config
from traces.explore.replay import TrafficReplay, parse_replay, render_replay
from traces.explore.steps import TrafficStep
from traces.explore.subject import OpenSubject, Subject, ViolationError, run_steps

__all__ = [
    "POLICIES",
    "OpenSubject",
    "Subject",
    "TrafficConfig",
    "TrafficReplay",
    "TrafficStep",
    "ViolationError",
    "draw_config",
    "parse_replay",
    "render_replay",
    "run_steps",
]
