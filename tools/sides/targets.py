"""Targets under guard, with their scenarios and worker classes, and selections of scenarios."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from tools.errors import ToolError
from traces.diff.aliases import NO_ALIASES, Aliases
from traces.targets.common.scenario import Scenario

NATIVE = "native"
SGLANG = "sglang"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Some of a target's scenarios.

    Attributes:
        known: every scenario of the target, by name, in registry order.
        names: those selected, in the same order.
        is_whole: whether all are selected because none was named.
    """

    known: Mapping[str, Scenario]
    names: tuple[str, ...]
    is_whole: bool

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The selected scenarios."""
        return tuple(self.known[name] for name in self.names)


def select_scenarios(names: Sequence[str] | None, *, known: Mapping[str, Scenario]) -> Selection:
    """Return the named scenarios; all of them when none is named.

    Raises:
        ToolError: a name is unknown; a known one that is alike is suggested.
    """
    wanted = frozenset(names or ())
    for name in names or ():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            named = f"{near[0]} or another" if near else "one"
            expected = f"{named} of `goldentrace list`"
            raise ToolError("scenario", "must be known", expected=expected, got=name)
    selected = tuple(name for name in known if not wanted or name in wanted)
    return Selection(known=known, names=selected, is_whole=not wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """One code base under guard.

    Attributes:
        worker_class: ``module:class`` of its workers.
        audit_worker_class: the same for an audit that looks at more than the gate records; empty
            for an audit that does not.
        reach_worker_class: the same for runs that are kept, of which is known what they reach.
        keeps_in_turns: whether a run that is kept is made under one hash seed, the scenarios taking
            turns, and not under both.
        package: folder of a tree that holds the code.
        scenarios: module whose ``registry()`` returns its scenarios by name.
        findings: module whose ``known_findings()`` returns reasons of audit findings that its
            scenarios declare, by key; empty for none.
        sides: forms of its sides, for messages.
        aliases: module whose ``aliases()`` returns names that the target changed; empty for none.
    """

    name: str
    worker_class: str
    audit_worker_class: str
    reach_worker_class: str
    keeps_in_turns: bool
    package: str
    scenarios: str
    findings: str
    sides: str
    aliases: str


TARGETS: Mapping[str, TargetSpec] = {
    NATIVE: TargetSpec(
        name=NATIVE,
        worker_class="tools.workers.native:NativeWorker",
        audit_worker_class="tools.workers.native:NativeAuditWorker",
        reach_worker_class="tools.workers.native:NativeReachWorker",
        keeps_in_turns=False,
        package="assembler",
        scenarios="traces.targets.native.scenarios",
        findings="traces.targets.native.models",
        sides="golden, worktree or a git revision",
        aliases="",
    ),
    SGLANG: TargetSpec(
        name=SGLANG,
        worker_class="tools.workers.sglang:SglangWorker",
        audit_worker_class="",
        reach_worker_class="tools.workers.sglang:SglangReachWorker",
        keeps_in_turns=True,
        package="sglang",
        scenarios="traces.targets.sglang.registry",
        findings="",
        sides="pypi:VERSION, dir:PATH, git:PATH@REV or golden",
        aliases="traces.targets.sglang.aliases",
    ),
}


def find_target(name: str) -> TargetSpec:
    """Return the target of that name.

    Raises:
        ToolError: there is none.
    """
    if name not in TARGETS:
        expected = ", ".join(TARGETS)
        raise ToolError("--target", "must be known", expected=expected, got=repr(name))
    return TARGETS[name]


def load_scenarios(target: TargetSpec) -> Mapping[str, Scenario]:
    """Return every scenario of a target by name, in registry order."""
    scenarios: Mapping[str, Scenario] = import_module(target.scenarios).registry()
    return scenarios


def load_declared_findings(target: TargetSpec) -> Mapping[str, str]:
    """Return the reasons of known audit findings that a target's scenarios declare, by key."""
    if not target.findings:
        return {}
    declared: Mapping[str, str] = import_module(target.findings).known_findings()
    return declared


def load_aliases(target: TargetSpec) -> Aliases:
    """Return the names that changed from one release of a target to another."""
    if not target.aliases:
        return NO_ALIASES
    found: Aliases = import_module(target.aliases).aliases()
    return found
