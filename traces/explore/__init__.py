"""Random traffic over every builder, against a plain model, under random schedules and faults.

A *case* is a scenario with a seed and a scheduling policy. Hypothesis draws the *steps* of the
traffic; a *subject* takes them on a real stack and compares it with what should be there. What it
finds is a *violation*, which is shrunk and kept as a *replay*. Nothing in this package imports a
target; only :mod:`traces.explore.machine` imports Hypothesis.
"""

from traces.explore.cases import POLICIES, Case, case_of
from traces.explore.replay import Replay, parse_replay, render_replay
from traces.explore.steps import Step
from traces.explore.subject import OpenSubject, Subject, ViolationError, played

__all__ = [
    "POLICIES",
    "Case",
    "OpenSubject",
    "Replay",
    "Step",
    "Subject",
    "ViolationError",
    "case_of",
    "parse_replay",
    "played",
    "render_replay",
]
