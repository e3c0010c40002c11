"""Functions of a release are compiled when they are called, and not before."""

import inspect

import pytest
import torch

from traces.targets.sglang.shims.compilation import put_off_compilation
from traces.targets.sglang.shims.module_binding import AttributePatches


class Module(torch.nn.Module):
    def forward(self, value):
        return value


@pytest.fixture
def compiled(monkeypatch):
    """What was compiled, with its settings; the compiler in use adds one to a function's result."""
    found = []

    def compile_now(model, **settings):
        found.append((model, settings))
        return lambda *values, **named: model(*values, **named) + 1

    monkeypatch.setattr(torch, "compile", compile_now)
    changes = AttributePatches()
    put_off_compilation(changes)
    yield found
    changes.undo()
    assert torch.compile is compile_now


def double(value, *, offset=0):
    """Return twice a value."""
    return 2 * value + offset


def test_a_function_is_compiled_once_when_it_is_called(compiled):
    fast = torch.compile(double, dynamic=True)
    assert compiled == []
    assert [fast(3), fast(4, offset=10)] == [7, 19]
    assert compiled == [(double, {"dynamic": True})]


def test_a_decorator_with_settings_puts_off_as_well(compiled):
    @torch.compile(disable=True)
    def triple(value):
        return 3 * value

    assert compiled == []
    assert triple(2) == 7
    assert [settings for _, settings in compiled] == [{"disable": True}]


def test_name_and_signature_are_those_of_the_function(compiled):
    fast = torch.compile(double)
    assert (fast.__name__, fast.__doc__) == ("double", "Return twice a value.")
    assert inspect.signature(fast) == inspect.signature(double)


def test_a_module_is_compiled_at_once(compiled):
    module = Module()
    torch.compile(module)
    assert [model for model, _ in compiled] == [module]
