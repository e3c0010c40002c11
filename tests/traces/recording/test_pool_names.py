"""Pools that a constructor names: one that no entry names is called what the object says."""

from dataclasses import replace

from tinystack import pools, stack

from traces import record
from traces.recording.probes import CallProbe, PoolNaming


def names_itself(values):
    yield PoolNaming(side="host", pool="OWN", holder=values["self"])


def owners(target):
    with record(target=target) as recorder:
        stack.build_host(device_pool=pools.DevicePool(8, width=4))
    return {one.owner for one in recorder.tensors if one.side == "host"}


def test_a_constructor_can_name_what_it_makes(tiny):
    class WithNames(type(tiny)):
        def probes(self):
            for probe in super().probes():
                is_host = isinstance(probe, CallProbe) and probe.callee == "HostPool"
                yield replace(probe, names_pools=names_itself) if is_host else probe

    assert owners(WithNames()) == {"host.OWN"}
    assert owners(tiny) == {"host.HostPool"}
