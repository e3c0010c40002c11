"""Projects of somebody who uses the fixture, run inside a test."""

from pathlib import Path

import pytest
import tinytarget
import torch

from traces.pytest import fixture, snapshot

# Imported above so that pytester, which restores sys.modules, never imports them a second time.
_ = (tinytarget, torch, fixture, snapshot)


# Without hypothesis, which would be imported again by every inner run.
QUICK = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")


FAKE = Path(__file__).parent / "fake"


CONFTEST = f"""
import sys
sys.path.insert(0, {str(FAKE)!r})
import pytest

@pytest.fixture
def golden_trace_target():
    from tinytarget import TinyTarget
    return TinyTarget()
"""


STACK = """
import pytest
from tinystack import pools, stack

def build(*, width=16, **extra):
    pool = pools.WideDevicePool(8, scale=2)
    return stack.build_stack(pool, options=stack.Options(), width=width, **extra)
"""


ONE = "def test_one(golden_trace):\n    with golden_trace('one'):\n        build()\n"


class Project:
    """A project of somebody who uses the fixture."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.golden = pytester.path / "golden"
        pytester.makeconftest(CONFTEST)
        pytester.makeini("[pytest]\nfilterwarnings = error\n    ignore::FutureWarning:torch\n")

    def test(self, body: str, *, name: str = "test_stack") -> None:
        self.pytester.makepyfile(**{name: STACK + body})

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(*QUICK, *arguments)

    def update(self, *arguments: str) -> pytest.RunResult:
        return self.run("--snapshot-update", *arguments)

    def goldens(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.golden.glob("*"))}
