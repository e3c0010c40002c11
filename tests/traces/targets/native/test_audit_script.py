"""The native stage of an audit: buffers that nobody listed take part."""

import pytest
import torch

from traces.audit import audit
from traces.schema.model import RoundTrip
from traces.targets.native import device_side
from traces.targets.native.run import run_scenario, run_scenario_on_every_buffer
from traces.targets.native.scenarios import registry

NAME = "kv_only.llama3_8b.layer_first.kernel"


@pytest.fixture
def scenario():
    return next(one for name, one in registry().items() if name.startswith(NAME))


def trips(recording):
    found = [one for one in recording.trace.digests if isinstance(one, RoundTrip)]
    return {(one.step, one.rows): one.equal for one in found}


@pytest.fixture
def unlisted(monkeypatch):
    """A device pool gets scales, a row for every slot, in a private attribute."""
    make = device_side.make_token_pool

    def with_scales(*arguments, **keywords):
        pool = make(*arguments, **keywords)
        rows = pool.k_buffer[0].shape[0]
        pool._scales = [torch.zeros(rows, 4) for _ in pool.k_buffer]
        return pool

    monkeypatch.setattr(device_side, "make_token_pool", with_scales)


def test_each_kind_of_row_has_a_round_trip_of_its_own(scenario):
    played = run_scenario_on_every_buffer(scenario, device="sim")
    assert trips(played) == {
        ("reload", "KV.k"): True,
        ("reload", "KV.v"): True,
        ("pressure", "KV.k"): True,
        ("pressure", "KV.v"): True,
        ("share", "KV.k"): True,
        ("share", "KV.v"): True,
    }
    assert played.trace.outcome.ok


def test_what_is_recorded_for_goldens_stays_as_it_was(scenario):
    assert trips(run_scenario(scenario, device="sim")) == {
        ("reload", "KV"): True,
        ("pressure", "KV"): True,
        ("share", "KV"): True,
    }


def test_a_buffer_that_no_host_pool_mirrors_is_found_though_nobody_listed_it(scenario, unlisted):
    played = run_scenario_on_every_buffer(scenario, device="sim")
    assert trips(played)["reload", "KV._scales"] is False
    found = audit({scenario.name: played}, recorded={})
    assert [(str(one.kind), one.where) for one in found if one.consequences] == [
        ("declared_not_assembled", "build_kv_only_stack: device.KV._scales")
    ]
