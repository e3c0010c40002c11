"""Targets by name, those of other engines included."""

from importlib.metadata import EntryPoint

import pytest
import tinytarget

from traces import record, targets


@pytest.fixture
def installed(monkeypatch):
    """Pretend that packages with these entry points are installed."""

    def install(**values: str) -> None:
        group = targets.ENTRY_POINT_GROUP
        points = [EntryPoint(name, value, group) for name, value in values.items()]
        monkeypatch.setattr(targets, "entry_points", lambda *, group: points)

    return install


def test_target_of_another_engine_is_found_by_its_entry_point(installed):
    installed(tiny="tinytarget:TinyTarget")

    assert isinstance(targets.get_target("tiny"), tinytarget.TinyTarget)
    from tinystack import pools

    with record(target="tiny") as recorder:
        pools.DevicePool(4, width=2)
    assert [call.callee for call in recorder.calls] == ["DevicePool"]


def test_unknown_target_names_those_that_were_found(installed):
    installed(tiny="tinytarget:TinyTarget", other="nowhere:Target")

    with pytest.raises(ValueError, match="expected native, other, tiny, got martian"):
        targets.get_target("martian")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere:Target", "expected a Target, got ModuleNotFoundError: No module named 'nowhere'"),
        ("builtins:dict", "got a dict without name, package, root, probes, builders, "),
    ],
)
def test_entry_point_without_a_target_is_named(installed, value, message):
    installed(broken=value)

    with pytest.raises(ValueError, match=message) as caught:
        targets.get_target("broken")
    assert f"target broken: entry point {value} must make a target" in str(caught.value)
