"""A small checkout with goldens, a hand-written trace, and players that need no torch."""

import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from tools.cli import run_command, run_guarded
from tools.errors import ToolError
from tools.goldens.declaration import BASE_REF
from tools.session import Session
from tools.workers.protocol import (
    ListBuilders,
    ReadProvenance,
    ReplayScenario,
    RunResult,
    RunScenario,
    TaskFailed,
    TaskReply,
    UnsupportedScenario,
)
from tools.workers.results import HASH_SEEDS
from traces.schema.canonical import render, render_sites
from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    Failure,
    Location,
    Outcome,
    RoundTrip,
    ScenarioRecord,
    Sites,
    TensorRecord,
    Trace,
)

BUILDER = "build_kv_only_stack"


def build_trace(name: str, *, width: int = 656) -> Trace:
    """One builder that makes one host pool, whose row is ``width`` bytes, and a round trip."""
    return Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(name=name, config={"page_size": 64}),
        calls=(
            Call(
                call=f"{BUILDER}#1",
                parent="",
                caller="",
                step="build",
                role="builder",
                part="",
                callee=BUILDER,
                arguments=(Argument(name="page_size", value=64, given=True),),
                returns=None,
                raises=None,
            ),
            Call(
                call="MLATokenToKVPoolHost#1",
                parent=f"{BUILDER}#1",
                caller=BUILDER,
                step="build",
                role="constructor",
                part="",
                callee="MLATokenToKVPoolHost",
                arguments=(Argument(name="override_kv_cache_dim", value=width, given=True),),
                returns={"ref": "MLATokenToKVPoolHost#1"},
                raises=None,
            ),
        ),
        tensors=(
            TensorRecord(
                owner="host.KV",
                is_named=True,
                side="host",
                pool="KV",
                object="MLATokenToKVPoolHost#1",
                name="kv_buffer",
                attribute="kv_buffer",
                index=(),
                planes=("kv",),
                layer=None,
                layer_num=0,
                row_bytes=width,
                slots_per_row=1,
                shape=(2, 128, 1, width),
                dtype="uint8",
                stride=(128 * width, width, width, 1),
                layout="layer_first",
                bytes=256 * width,
                pinned=True,
                aliases="",
            ),
        ),
        events=(),
        digests=(
            RoundTrip(
                step="load", pool="KV", plane="", equal=True, wrong_slots="", foreign_slots=""
            ),
        ),
        outcome=Outcome(ok=True, failed_step="", failure=None),
    )


def build_sites() -> Sites:
    return Sites(
        calls={
            f"{BUILDER}#1": Location(file="traces/targets/native/run.py", line=7),
            "MLATokenToKVPoolHost#1": Location(file="assembler/stacks.py", line=123),
        },
        definitions={"MLATokenToKVPoolHost": Location(file="assembler/host_pools/mla.py", line=5)},
        events=(),
    )


@dataclass
class FakePool:
    """Answers tasks from a script: traces by scenario name.

    A text stands for a failure, a pair for one trace under each hash seed. ``answer`` may change
    what a task gives.
    """

    traces: dict[str, object]
    known_builders: tuple[str, ...]
    gpu: str
    answer: Callable[..., object] = lambda result, _task, *, seed: result
    is_warm = False

    def results(self, tasks, *, in_turns=False):
        for number, task in enumerate(tasks):
            for seed in [HASH_SEEDS[number % 2]] if in_turns else HASH_SEEDS:
                is_run = isinstance(task, RunScenario)
                result = self.run(task.scenario.name, seed=seed) if is_run else None
                result = self.answer(result, task, seed=seed)
                yield TaskReply(number=number, task=task, seed=seed, result=result)

    def run(self, name, *, seed):
        played = self.traces[name]
        if isinstance(played, tuple):
            played = played[HASH_SEEDS.index(seed)]
        if isinstance(played, str):
            return TaskFailed(reason=played)
        if isinstance(played, UnsupportedScenario):
            return played
        return RunResult(text=render(played), sites=render_sites(build_sites()))

    def start(self, task_num, *, in_turns):
        pass

    def shrink(self, size):
        assert size == 1

    def call(self, task):
        match task:
            case ReplayScenario():
                raise ToolError(task.scenario.name, "must be real", expected="code", got="a script")
            case ListBuilders():
                return self.known_builders
            case RunScenario():
                return self.run(task.scenario.name, seed=HASH_SEEDS[0])
            case ReadProvenance():
                return self.provenance(task.device)

    def provenance(self, device):
        kind = device.partition(":")[0]
        there = kind != "cuda" or self.gpu
        return {
            "device": ("cpu" if kind == "auto" else kind) if there else "",
            "device_name": self.gpu if kind == "cuda" else "x86_64",
            "driver": "570.1" if kind == "cuda" else "",
            "cuda": "13.0" if kind == "cuda" else "",
            "goldentrace": "0.1",
            "python": "3.11",
            "torch": "2.0",
        }


@dataclass
class Checkout:
    """A git repository with goldens, and what its scenarios play.

    ``traces`` is what the work tree plays, ``base_traces`` what any other root plays. ``gpu`` is
    the name of the machine's GPU, empty when it has none. ``opened`` holds the root of every pool.
    """

    root: Path
    traces: dict[str, object]
    base_traces: dict[str, object] = field(default_factory=dict)
    builders: tuple[str, ...] = (BUILDER,)
    gpu: str = "NVIDIA H100"
    opened: list[Path] = field(default_factory=list)

    @property
    def golden(self) -> Path:
        return self.root / "traces" / "golden" / "native"

    @property
    def changelog(self) -> Path:
        return self.root / "CHANGELOG.md"

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), "-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
        return done.stdout

    def write_golden(self, trace: Trace) -> None:
        (self.golden / f"{trace.scenario.name}.json").write_text(render(trace))

    def write_baseline(self, *keys: str) -> None:
        """Make findings of an audit known."""
        path = self.root / "traces" / "baseline" / "native.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f'"{key}" = "the code knows one value only"' for key in keys]
        path.write_text("\n".join(['schema = "goldentrace.baseline/1"', "[findings]", *lines]))

    def commit(self, message: str = "work") -> None:
        self.git("add", ".")
        self.git("commit", "-q", "-m", message)

    def files(self) -> dict[str, bytes]:
        """Every file that is not git's own or scratch."""
        hidden = (".git", ".goldentrace")
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.relative_to(self.root).parts[0] not in hidden
        }

    def session(self, *, target: str, limit_seconds: float) -> Session:
        @contextmanager
        def open_pool(place):
            self.opened.append(place.root)
            traces = self.traces if place.root == self.root else self.base_traces
            yield FakePool(traces=traces, known_builders=self.builders, gpu=self.gpu)

        scenarios = {
            name: SimpleNamespace(name=name, builder=BUILDER, config={"page_size": 64})
            for name in self.traces
        }
        return Session(
            root=self.root,
            target=target,
            scenarios=scenarios,
            open_pool=open_pool,
            open_audit_pool=open_pool,
        )


@pytest.fixture
def fake_pool() -> type[FakePool]:
    return FakePool


@pytest.fixture
def make_trace() -> Callable[..., Trace]:
    return build_trace


@pytest.fixture
def broken_trace():
    """A trace whose round trip did not restore slot 65."""

    def make(name: str) -> Trace:
        trip = RoundTrip(
            step="load", pool="KV", plane="", equal=False, wrong_slots="65", foreign_slots=""
        )
        return msgspec.structs.replace(build_trace(name), digests=(trip,))

    return make


@pytest.fixture
def failed_trace():
    """A trace that ended with an exception."""

    def make(name: str) -> Trace:
        failure = Failure(type="ValueError", message="no")
        outcome = Outcome(ok=False, failed_step="build", failure=failure)
        return msgspec.structs.replace(build_trace(name), outcome=outcome)

    return make


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Checkout:
    """Scenarios ``a`` and ``b`` with committed goldens that say what is played."""
    monkeypatch.delenv(BASE_REF, raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("GOLDENTRACE_DEBUG", raising=False)
    root = tmp_path / "checkout"
    made = Checkout(root=root, traces={name: build_trace(name) for name in ("a", "b")})
    made.golden.mkdir(parents=True)
    (root / "assembler").mkdir()
    (root / "assembler" / "__init__.py").touch()
    made.changelog.write_text("# Changelog\n\n## [Unreleased]\n")
    (root / ".gitignore").write_text(".goldentrace/\n")
    for trace in made.traces.values():
        made.write_golden(trace)
    made.git("init", "-q", "-b", "main")
    made.commit()
    made.base_traces = dict(made.traces)
    return made


@pytest.fixture
def goldentrace(checkout):
    """Run a command line on the small checkout and return its exit code."""

    def call(*arguments: str) -> int:
        return run_guarded(lambda: run_command(list(arguments), open_session=checkout.session))

    return call


@pytest.fixture
def narrowed(checkout):
    """Scenario ``a`` plays a host row of 576 bytes instead of 656."""
    trace = build_trace("a", width=576)
    checkout.traces["a"] = trace
    return trace
