"""Construction of device pools by a release itself: from server flags and a model to pools.

The method that makes the pools of a model runner is found by its name in every release. It runs on
an object that answers what the method asks for; then under every server flag that its source
reads, with a value that is not the flag's default.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple
from unittest.mock import patch

from traces.schema.model import StepRecord
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.configured_stacks import ConfiguredStack, attach_to_tree
from traces.targets.sglang.configured_trips import ConfiguredTrip, is_playable
from traces.targets.sglang.discovery import find_part
from traces.targets.sglang.errors import StepNote, UnsupportedByRelease
from traces.targets.sglang.geometry import draft_geometry, geometry_of
from traces.targets.sglang.model_facts import ModelFacts
from traces.targets.sglang.models import MODELS
from traces.targets.sglang.pool_makers import pool_maker
from traces.targets.sglang.rank_context import RankContext, RankContexts
from traces.targets.sglang.scenarios import SglangScenario
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.server_flags import (
    FlagValue,
    error_text,
    flag_values,
    flags_refused_beside_a_host_tier,
)
from traces.targets.sglang.shims.triton_interpreter import KernelUnavailableError
from traces.targets.sglang.source_facts import POOL_MAKER

_MEMORY_SAVER = "sglang.srt.utils.torch_memory_saver_adapter"
_SPECULATION = "sglang.srt.speculative.spec_info"
# No two are equal, and none is a default; as many tokens as a chain of the steps has, and more.
_DRAFT_SIZES = {
    "speculative_num_steps": 2,
    "speculative_eagle_topk": 1,
    "speculative_num_draft_tokens": 6,
}
_STATE_SLOTS = 7
_EXTRA_SLOTS = 9
_BUILD, _DRAFT, _TOGETHER = "build", "draft", "flags"
_SHARED_WITH_DRAFT = ("req_to_token_pool", "token_to_kv_pool_allocator")


class PoolConfiguration:
    """Script of a scenario: the release makes its pools, a draft's pools, and pools under flags.

    Flags that leave the kinds of pools alone are set together, in one step; each other one, and
    each that the release refuses, has a step of its own. A flag without any effect has none, so
    that a release that reads one more flag for nothing differs in nothing. Each algorithm of
    speculative decoding that leads to other pools has a step, under the flags that leave the kinds
    of pools alone.

    Attributes:
        steps: names of the steps.
    """

    def __init__(
        self,
        scenario: SglangScenario,
        *,
        ranks: RankContexts,
        device: ScriptDevice,
        name_pools: Callable[[str], None],
    ) -> None:
        self._maker = _PoolMaking(scenario, ranks=ranks, device=str(device.torch_device))
        self._device = device
        self._name_pools = name_pools
        self._target: dict[str, Any] = {}
        self._stacked: set[tuple[str, ...]] = set()
        self._notes: list[StepNote] = []
        chosen = _FlagSteps(self._maker)
        self._flags = chosen.choose()
        self._speculating = chosen.choose_speculation(self._flags.get(_TOGETHER, {}))
        self.steps = (_BUILD, _DRAFT, *self._flags, *self._speculating)

    def take_notes(self) -> list[StepNote]:
        """Return, once, which steps could not run."""
        notes, self._notes = self._notes, []
        return notes

    def run_step(self, step: str) -> Iterator[StepRecord]:
        """Make the pools of a step; what the release raises is in the record of the call.

        Raises:
            UnsupportedByRelease: the first step cannot run.
            Exception: any error of the release in the first step.
        """
        if step == _BUILD:
            self._target = self._maker.make({}, others={})
            self._stacked.add(_kinds(self._target))
            return
        try:
            if step == _DRAFT:
                # A draft shares slots and requests with the target.
                shared = {name: self._target[name] for name in _SHARED_WITH_DRAFT}
                self._maker.make({}, others={"is_draft_worker": True, **shared})
            elif step in self._speculating:
                speculation = self._speculating[step]
                self._maker.make(speculation.flags, others={}, algorithm=speculation.algorithm)
            else:
                made = self._maker.make(self._flags[step], others={})
                yield from self._make_stack(step, made)
        except (UnsupportedByRelease, KernelUnavailableError) as error:
            self._notes.append(StepNote(f"not played: {step}: {error}", None))
        except Exception as error:  # noqa: BLE001 - the release may raise anything
            self._notes.append(StepNote(f"refused: {step}: {error_text(error)}", error))

    def _make_stack(self, step: str, made: Mapping[str, Any]) -> Iterator[StepRecord]:
        """Attach a stack to pools of kinds that had none yet: those of a scenario have no flags.

        Rows go through it where the pools share memory; others do so in scenarios of their own.
        """
        if _kinds(made) in self._stacked:
            return
        self._stacked.add(_kinds(made))
        self._name_pools(step)
        stack = self._maker.attach_stack(made, flags=self._flags[step])
        # A server would refuse the flag beside a host tier, whose copies need not work then.
        is_refused = not flags_refused_beside_a_host_tier().isdisjoint(self._flags[step])
        if is_playable(stack) and not is_refused:
            yield from ConfiguredTrip(stack, device=self._device, step=step).run()


def _kinds(made: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(type(pool).__name__ for pool in made.values())


class _FlagSteps:
    """Choice of the steps under flags, by pools that are made and thrown away."""

    def __init__(self, maker: "_PoolMaking") -> None:
        self._maker = maker
        self._steps: dict[str, dict[str, Any]] = {}

    def choose(self) -> dict[str, dict[str, Any]]:
        """Return the flags of every step, by its name."""
        plain = self._effect({})
        # Others are refused by the command line, before any pool is made.
        free = [
            one for one in self._maker.free_flags() if self._maker.accepts({one.name: one.value})
        ]
        alone = [self._effect({flag.name: flag.value}) for flag in free]
        together: dict[str, Any] = {}
        fitting = [
            flag for flag, effect in zip(free, alone, strict=True) if effect.kinds == plain.kinds
        ]
        while fitting:
            # One value of each flag at a time.
            first = {flag.name: flag for flag in reversed(fitting)}
            tried = [flag for flag in fitting if first[flag.name] is flag]
            together = _added(
                together,
                [(flag.name, flag.value) for flag in tried],
                lambda flags: self._effect(flags).kinds == plain.kinds,
            )
            fitting = [one for one in fitting if one not in tried and one.name not in together]
        for flag, effect in zip(free, alone, strict=True):
            is_kept = flag.name in together and together[flag.name] is flag.value
            if not is_kept and effect != plain:
                self._steps[flag.step] = {flag.name: flag.value}
        return {**({_TOGETHER: together} if together else {}), **self._steps}

    def choose_speculation(self, together: Mapping[str, Any]) -> dict[str, "_Speculation"]:
        """Return the algorithms that lead to pools of their own, by the name of their step.

        The first one has those flags of ``together`` as well under which it makes the same pools.
        """
        found: dict[str, _Speculation] = {}
        known = {self._effect({})}
        for algorithm in find_part(_SPECULATION, "SpeculativeAlgorithm") or ():
            flags = {"speculative_algorithm": algorithm.name, **_DRAFT_SIZES}
            if not self._maker.accepts(flags):
                continue
            effect = self._effect(flags, algorithm)
            if effect.kinds and effect not in known:
                known.add(effect)
                more = {} if found else self._compatible(flags, together, algorithm)
                step = f"speculation={algorithm.name.lower()}"
                found[step] = _Speculation({**flags, **more}, algorithm)
        return found

    def _compatible(
        self,
        flags: Mapping[str, Any],
        others: Mapping[str, Any],
        algorithm: Any,  # noqa: ANN401 - a member of the release's own enumeration
    ) -> dict[str, Any]:
        """Return those of some flags that leave the kinds of pools alone, switches first."""
        kinds = self._effect(flags, algorithm).kinds

        def leave_them(tried: Mapping[str, Any]) -> bool:
            given = {**flags, **tried}
            return self._maker.accepts(given) and self._effect(given, algorithm).kinds == kinds

        free = [name for name in others if name not in flags]
        free.sort(key=lambda one: not isinstance(others[one], bool))
        return _added({}, [(name, others[name]) for name in free], leave_them)

    def _effect(self, flags: Mapping[str, Any], algorithm: Any = None) -> "_Effect":  # noqa: ANN401
        try:
            pools = self._maker.make(flags, others={}, algorithm=algorithm)
        except Exception as error:  # noqa: BLE001 - the release may raise anything
            return _Effect(kinds=(), content=error_text(error))
        buffers = [
            (name, buffer.name, tuple(buffer.tensor.shape), str(buffer.tensor.dtype))
            for name, pool in pools.items()
            for buffer in buffers_of(pool)
        ]
        values = [
            (name, key, value)
            for name, pool in pools.items()
            for key, value in sorted(getattr(pool, "__dict__", {}).items())
            if isinstance(value, bool | int | float | str | None)
        ]
        return _Effect(kinds=_kinds(pools), content=repr((buffers, values)))


def _added(
    kept: dict[str, Any],
    flags: Sequence[tuple[str, Any]],
    are_right: Callable[[Mapping[str, Any]], bool],
) -> dict[str, Any]:
    """Return some flags with those of others that can join them, tried together and in halves."""
    tried = {**kept, **dict(flags)}
    if not flags or are_right(tried):
        return tried
    if len(flags) == 1:
        return kept
    half = len(flags) // 2
    return _added(_added(kept, flags[:half], are_right), flags[half:], are_right)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effect:
    """Pools and parts that some flags lead to.

    Attributes:
        kinds: classes of the pools; empty where the release refuses the flags.
        content: buffers and plain attributes, or the text of the refusal.
    """

    kinds: tuple[str, ...]
    content: str


class _Speculation(NamedTuple):
    """Flags of speculative decoding, and its algorithm in the release's own enumeration."""

    flags: Mapping[str, Any]
    algorithm: Any


class _PoolMaking:
    """The making of a scenario's pools by the release, under any flags."""

    def __init__(self, scenario: SglangScenario, *, ranks: RankContexts, device: str) -> None:
        self._scenario = scenario
        self._ranks = ranks
        self._device = device
        # A server derives them before it makes pools.
        self._base: dict[str, Any] = {"disaggregation_decode_extra_slots": _EXTRA_SLOTS}
        if MODELS[scenario.model].state_layers:
            self._base["max_mamba_cache_size"] = _STATE_SLOTS

    def free_flags(self) -> Iterator[FlagValue]:
        """Yield the flags that the scenario does not set itself, with their values."""
        context = self._open({})
        for flag in flag_values((Path(inspect.getfile(pool_maker())),)):
            is_given = flag.name in context.given_flags or flag.name in self._base
            if not is_given and getattr(context.server_args, flag.name) == flag.default:
                yield flag

    def accepts(self, flags: Mapping[str, Any]) -> bool:
        """Return whether a server's arguments can have some values."""
        try:
            self._open(flags)
        except Exception:  # noqa: BLE001 - the release may raise anything
            return False
        return True

    def make(
        self,
        flags: Mapping[str, Any],
        *,
        others: Mapping[str, Any],
        algorithm: Any = None,  # noqa: ANN401 - a member of the release's own enumeration
    ) -> dict[str, Any]:
        """Return the pools that the release makes: request table, KV pool, allocator.

        ``others`` are answers that differ from those of a server with one model; ``algorithm`` is
        that of speculative decoding.

        Raises:
            UnsupportedByRelease: what it asks for has no answer.
            Exception: any error of the release.
        """
        geometry = geometry_of(self._scenario)
        facts = ModelFacts(
            draft_geometry(geometry) if others else geometry,
            server_args=self._open(flags).server_args,
            device=self._device,
            others=others,
            speculation=algorithm,
        )
        owner = pool_maker()
        runner: Any = object.__new__(_answering(owner, facts))
        method = vars(owner)[POOL_MAKER]
        try:
            with _without_memory_saver():
                result = method(runner, **_arguments(method, facts))
        except AttributeError as error:
            if facts.asked and str(error) == facts.asked[-1]:
                rule = "the construction of pools asks for"
                raise UnsupportedByRelease(f"{rule} {facts.asked[-1]}") from error
            raise
        # Older releases set the pools on the runner itself.
        made = runner if result is None else result
        return {name: getattr(made, name) for name in (*_SHARED_WITH_DRAFT, "token_to_kv_pool")}

    def attach_stack(self, made: Mapping[str, Any], *, flags: Mapping[str, Any]) -> ConfiguredStack:
        """Attach a stack to pools that were made under some flags.

        Raises:
            Exception: any error of the release.
        """
        return attach_to_tree(self._scenario, self._open(flags), made=made)

    def _open(self, flags: Mapping[str, Any]) -> RankContext:
        return self._ranks.open(
            self._scenario,
            host_gigabytes=0,
            device=self._device,
            flags={**self._base, **flags},
        )


@contextmanager
def _without_memory_saver() -> Iterator[None]:
    """Let pools that ask for the memory saver allocate as usual: it is an extension for CUDA."""
    adapter = find_part(_MEMORY_SAVER, "TorchMemorySaverAdapter")
    if adapter is None:
        yield
        return
    create = adapter.create

    def create_disabled(*_arguments: object, **_named: object) -> Any:  # noqa: ANN401
        return create(enable=False)

    with patch.object(adapter, "create", create_disabled):
        yield


def _answering(owner: type, facts: ModelFacts) -> type:
    """Return a subclass whose missing attributes are answered by ``facts``."""

    def answer(_self: object, name: str) -> Any:  # noqa: ANN401 - a value of any type
        if name.startswith("__"):
            raise AttributeError(name)
        return facts.answer(name)

    return type(owner.__name__, (owner,), {"__getattr__": answer})


def _arguments(method: FunctionType, facts: ModelFacts) -> dict[str, Any]:
    """Return the arguments of the method: a record of sizes is filled by its fields."""
    arguments: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(method).parameters.items())[1:]:
        annotation = str(parameter.annotation).strip("'\"")
        record = method.__globals__.get(annotation)
        if isinstance(record, type) and hasattr(record, "__struct_fields__"):
            fields = record.__struct_fields__
            arguments[name] = record(**{field: facts.answer(field) for field in fields})
        else:
            arguments[name] = facts.answer(name)
    return arguments
