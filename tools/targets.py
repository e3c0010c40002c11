"""What can be guarded: the targets, their scenarios and who plays them."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from tools.errors import ToolError
from traces.scenarios import Scenario

NATIVE = "native"
SGLANG = "sglang"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One body of code under guard.

    Attributes:
        stage: ``module:class`` that its workers make.
        scenarios: module whose ``registry()`` returns its scenarios by name.
        sides: how its sides are written, for messages.
    """

    name: str
    stage: str
    scenarios: str
    sides: str


TARGETS: Mapping[str, Target] = {
    NATIVE: Target(
        name=NATIVE,
        stage="tools.stage:NativeStage",
        scenarios="traces.scenarios",
        sides="golden, worktree or a git revision",
    ),
    SGLANG: Target(
        name=SGLANG,
        stage="tools.sglang_stage:SglangStage",
        scenarios="traces.targets.sglang.scenarios",
        sides="pypi:VERSION, dir:PATH, git:PATH@REV or golden",
    ),
}


def known_target(name: str) -> Target:
    """Return the target of that name.

    Raises:
        ToolError: there is none.
    """
    if name not in TARGETS:
        expected = ", ".join(TARGETS)
        raise ToolError("--target", "must be known", expected=expected, got=repr(name))
    return TARGETS[name]


def scenarios_of(target: Target) -> Mapping[str, Scenario]:
    """Return every scenario of a target by name, in registry order."""
    scenarios: Mapping[str, Scenario] = import_module(target.scenarios).registry()
    return scenarios
