"""The rules of order, tried on every device: nothing may happen that the simulation excludes."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from assembler.device import get_device
from tests.traces.simulator.enumeration import executions
from tests.traces.simulator.litmus import PROGRAMS, LitmusContext, host_read_too_early
from traces.simulator import Schedule, SchedulePolicy, SimDevice

EVERY_PROGRAM = pytest.mark.parametrize("litmus", PROGRAMS, ids=lambda litmus: litmus.name)
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
REPETITIONS = 60
SANITIZED = Path(__file__).with_name("sanitized.py")


@EVERY_PROGRAM
def test_every_execution_has_an_allowed_outcome_and_the_same_verdict(litmus):
    found = list(
        executions(
            lambda device: litmus.play(LitmusContext(device, delays=())),
            is_observed=litmus.is_observed,
            limit=100,
        )
    )

    assert {outcome for outcome, _ in found} == litmus.outcomes
    assert {bool(races) for _, races in found} == {litmus.is_racy}


@EVERY_PROGRAM
@pytest.mark.parametrize("policy", list(SchedulePolicy))
def test_every_policy_has_an_allowed_outcome_and_the_same_verdict(litmus, policy):
    for seed in range(6):
        schedule = Schedule(seed=seed, policy=policy)
        device = SimDevice(schedule=schedule, capacity_bytes=None, raise_races=False)

        assert litmus.play(LitmusContext(device, delays=())) in litmus.outcomes
        device.synchronize()
        assert bool(device.races) is litmus.is_racy


@EVERY_PROGRAM
def test_eager_device_has_an_allowed_outcome(litmus):
    assert litmus.play(LitmusContext(get_device("cpu"), delays=())) in litmus.outcomes


@pytest.mark.cuda
@NEEDS_CUDA
@EVERY_PROGRAM
def test_gpu_has_an_allowed_outcome_whatever_is_slow(litmus):
    device, seen = get_device("cuda"), set()
    for repetition in range(REPETITIONS):
        delays = random.Random(repetition).choices((0, 1, 3, 20), k=16)
        seen.add(litmus.play(LitmusContext(device, delays=delays)))

    print(f"{litmus.name}: seen {sorted(seen)} of {sorted(litmus.outcomes)}")
    assert seen <= litmus.outcomes


@pytest.mark.cuda
@NEEDS_CUDA
def test_torch_sanitizer_gives_the_same_verdicts_but_for_the_host():
    """The sanitizer follows streams and events; it does not know what the host reads by itself."""
    environment = os.environ | {"TORCH_CUDA_SANITIZER": "1", "PYTHONPATH": str(Path.cwd())}
    run = subprocess.run(
        [sys.executable, str(SANITIZED)],
        env=environment,
        capture_output=True,
        check=False,
        text=True,
    )

    assert run.returncode == 0, run.stderr[-2000:]
    theirs = json.loads(run.stdout.splitlines()[-1])
    ours = {litmus.name: litmus.is_racy for litmus in PROGRAMS}
    for name, is_racy in ours.items():
        print(f"{name:32} simulation {is_racy!s:5} sanitizer {theirs[name]!s:5}")
    assert theirs == ours | {host_read_too_early.__name__: False}
