"""Switches: those that are read in a block are noted, and each has its other value in a block."""

import os
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest

from traces.targets.sglang import switches
from traces.targets.sglang.switches import noted_switches, switched


class _Field:
    def __init__(self, name, default):
        self.name = name
        self.default = default

    def get(self):
        value = os.environ.get(self.name)
        return self.default if value is None else value == "True"

    @contextmanager
    def override(self, value):
        os.environ[self.name] = str(value)
        yield
        del os.environ[self.name]


class _Switch(_Field):
    pass


@pytest.fixture
def declared(monkeypatch):
    """Return the settings of a release that declares two switches and a number."""
    module = ModuleType("release.srt.environ")
    module.EnvBool = _Switch
    module.envs = SimpleNamespace(
        ON=_Switch("ON", True), OFF=_Switch("OFF", False), NUMBER=_Field("NUMBER", 3)
    )
    monkeypatch.setattr(switches, "PACKAGE", "release")
    for name in ("release", "release.srt", module.__name__):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.envs


def test_the_switches_that_are_read_are_noted_and_have_their_values(declared):
    with noted_switches() as names:
        assert declared.OFF.get() is False
        assert declared.NUMBER.get() == 3
    assert names == {"OFF"}
    assert declared.ON.get() is True
    assert names == {"OFF"}


@pytest.mark.parametrize(("name", "other"), [("ON", False), ("OFF", True)])
def test_a_switch_has_its_other_value_while_the_block_runs(declared, name, other):
    switch = getattr(declared, name)
    with switched(name):
        assert switch.get() is other
    assert switch.get() is not other
