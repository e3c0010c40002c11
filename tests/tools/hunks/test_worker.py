"""A worker sees modules that only a scenario imports."""

import sys
from importlib import import_module
from types import SimpleNamespace

import msgspec
import pytest

from tests.tools.hunks.small_package import BASE
from tools.hunks.worker import ListExecutedLines, RunVariant, VariantWorker


class LateWorker(VariantWorker):
    """Imports a module of the package when it runs a scenario, which names the module."""

    def record(self, scenario, *, device):
        return import_module(scenario.name).build(ratio=2)


@pytest.fixture
def worker(trees, monkeypatch):
    root, _ = trees()
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return LateWorker(root)


STACK = SimpleNamespace(name="small.stack")


def test_lines_of_a_module_that_a_scenario_imports_are_listed(worker):
    files = ("small/stack.py", "small/sizes.py", "small/other.py")
    task = ListExecutedLines(files=files, scenarios=(STACK,), device="")
    executed = worker.handlers[ListExecutedLines](task)
    returned = BASE["sizes.py"].splitlines().index("    return ROW * planes") + 1
    spared = BASE["sizes.py"].splitlines().index("    return number + 1") + 1
    assert sorted(executed) == ["small/sizes.py", "small/stack.py"]
    assert returned in executed["small/sizes.py"]
    assert spared not in executed["small/sizes.py"]


@pytest.mark.parametrize(("width", "found"), [("", 656), (" * 2", 1312)])
def test_module_that_a_scenario_imports_is_run_with_the_text_of_a_variant(worker, width, found):
    text = BASE["sizes.py"].replace("ROW * planes", f"ROW * planes{width}")
    task = RunVariant(texts={"small/sizes.py": text}, scenarios=(STACK,), device="")
    recordings = worker.handlers[RunVariant](task)
    assert msgspec.msgpack.decode(recordings["small.stack"])["bytes"] == found
