"""Workers of another interpreter: what they see, in which order, and that they can be ended."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.errors import ToolError
from tools.workers.launch import ENTRY, WorkerLauncher
from tools.workers.pool import WorkerPool
from tools.workers.protocol import ListBuilders, ReadProvenance
from tools.workers.results import HASH_SEEDS, run_scenarios

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = "from dataclasses import dataclass\n\n@dataclass\nclass Named:\n    name: str\n"
WORKER = """
import json, os, subprocess, sys
from tools.workers.protocol import (
    ListBuilders, ReadProvenance, RunResult, RunScenario, UnsupportedScenario)

class FakeWorker:
    def __init__(self, root):
        import subject
        self.root, self.subject = root, subject

    @property
    def handlers(self):
        return {
            RunScenario: self.run,
            ListBuilders: lambda task: ("build_a",),
            ReadProvenance: lambda task: {"python": sys.executable},
        }

    def run(self, request):
        name = request.scenario.name
        if name == "unplayable":
            return UnsupportedScenario(reason="no such builder")
        if name == "halfplayable" and os.environ["PYTHONHASHSEED"] == "0":
            return UnsupportedScenario(reason="no such builder")
        if name == "crash":
            os._exit(9)
        if name == "child":
            child = subprocess.Popen(["sleep", "600"])
            open(os.environ["CHILD"], "a").write(f"{child.pid}\\n")
            child.wait()
        import pinned, tools, msgspec
        seen = {
            "root": str(self.root),
            "subject": self.subject.__file__,
            "pinned": pinned.VALUE,
            "msgspec": msgspec.__file__,
            "tools": tools.__file__,
            "environment": {key: os.environ.get(key) for key in (
                "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "PYTHONPATH",
                "PYTHONNOUSERSITE")},
        }
        print("noise on stdout")
        return RunResult(text=json.dumps(seen), sites="")
"""


@pytest.fixture
def side(tmp_path, monkeypatch):
    """A tree that brings a tools package along as sglang's wheels do, and a layer."""
    tree, layer = tmp_path / "tree", tmp_path / "layer"
    (tree / "tools").mkdir(parents=True)
    (tree / "tools" / "__init__.py").write_text("raise ImportError('foreign tools')\n")
    (tree / "subject.py").touch()
    (tree / "fake_worker.py").write_text(WORKER)
    (tree / "fake_scenarios.py").write_text(SCENARIO)
    layer.mkdir()
    (layer / "pinned.py").write_text("VALUE = 'layer'\n")
    (layer / "msgspec.py").write_text("VALUE = 'pinned'\n")
    # Whatever the user has on the path must not come before the layer.
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "pinned.py").write_text("VALUE = 'foreign'\n")
    monkeypatch.setenv("PYTHONPATH", str(foreign))
    return SimpleNamespace(tree=tree, layer=layer)


@pytest.fixture
def scenario(side):
    spec = importlib.util.spec_from_file_location("fake_scenarios", side.tree / "fake_scenarios.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_scenarios"] = module
    spec.loader.exec_module(module)
    yield module.Named
    del sys.modules["fake_scenarios"]


def pool_of(side, *, limit_seconds=30.0, python=sys.executable):
    launcher = WorkerLauncher(
        worker_class="fake_worker:FakeWorker",
        root=side.tree,
        python=Path(python),
        layers=(side.layer,),
        is_isolated=True,
    )
    return WorkerPool(launcher=launcher, size=1, limit_seconds=limit_seconds, seeds=HASH_SEEDS)


def run(pool, *scenarios):
    with pool:
        return run_scenarios(pool, scenarios, device="cpu", on_run=lambda _name: None)


def test_tree_and_layers_come_before_everything_and_our_packages_from_here(side, scenario, capfd):
    results = run(pool_of(side), scenario("a"))
    assert results.problems == ()
    seen = json.loads(results.by_scenario["a"].text)
    assert seen["root"] == str(side.tree)
    assert seen["subject"] == str(side.tree / "subject.py")
    assert seen["pinned"] == "layer"
    assert seen["msgspec"] == str(side.layer / "msgspec.py")
    assert seen["tools"] == str(ROOT / "tools" / "__init__.py")
    assert seen["environment"] == {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONPATH": None,
        "PYTHONNOUSERSITE": "1",
    }
    assert capfd.readouterr().out == ""


def test_what_a_side_cannot_play_is_no_problem_but_has_its_reason(side, scenario):
    results = run(pool_of(side), scenario("unplayable"), scenario("a"))
    assert list(results.by_scenario) == ["a"]
    assert results.unplayable == {"unplayable": "no such builder"}
    assert results.problems == ()


def test_what_only_one_hash_seed_can_play_is_a_problem(side, scenario):
    results = run(pool_of(side), scenario("halfplayable"))
    assert results.unplayable == {}
    [problem] = results.problems
    assert problem == (
        "halfplayable: must run to the end (PYTHONHASHSEED=0); "
        "expected a trace, got no such builder"
    )


def test_dying_worker_names_its_scenario_and_is_replaced(side, scenario):
    results = run(pool_of(side), scenario("crash"), scenario("a"))
    assert list(results.by_scenario) == ["a"]
    assert "a worker that ended with code 9" in results.problems[0]


def test_worker_answers_about_the_target_too(side):
    with pool_of(side) as pool:
        assert pool.call(ListBuilders()) == ("build_a",)
        assert pool.call(ReadProvenance(device="cpu")) == {"python": sys.executable}


def test_side_that_cannot_be_imported_is_refused(side):
    (side.tree / "subject.py").write_text("import no_such_module\n")
    refused = r"^target: must be importable; .*'no_such_module'$"
    with pool_of(side) as pool, pytest.raises(ToolError, match=refused):
        pool.call(ListBuilders())


def test_program_that_is_no_python_is_refused(side):
    with (
        pool_of(side, python="/bin/false") as pool,
        pytest.raises(ToolError, match=r"^worker: must start; "),
    ):
        pool.call(ListBuilders())


def test_children_of_a_worker_end_with_it(side, scenario, tmp_path, monkeypatch):
    monkeypatch.setenv("CHILD", str(tmp_path / "children"))
    results = run(pool_of(side, limit_seconds=1.0), scenario("child"))
    assert "gave none in time" in results.problems[0]
    children = [int(line) for line in (tmp_path / "children").read_text().split()]
    assert len(children) == 2
    deadline = time.monotonic() + 5
    while any(_runs(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(child) for child in children)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]


def test_worker_needs_the_standard_library_alone_before_its_stage(tmp_path):
    """Scenario: an interpreter without any other package serves until it cannot make its stage."""
    (tmp_path / "stageless.py").write_text(
        "import sys\n"
        "ours = {'tools', 'traces', 'assembler', 'stageless', '__main__', '__mp_main__'}\n"
        "known = {name.partition('.')[0] for name in sys.modules}\n"
        "foreign = known - set(sys.stdlib_module_names) - ours\n"
        "raise ImportError(f'foreign: {sorted(foreign)}')\n"
    )
    program = (
        "import multiprocessing, subprocess, sys\n"
        "ours, theirs = multiprocessing.Pipe()\n"
        "command = [sys.executable, '-I', '-S', sys.argv[1], str(theirs.fileno()), *sys.argv[2:]]\n"
        "subprocess.run(command, pass_fds=[theirs.fileno()], check=True)\n"
        "print(ours.recv().reason)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ENTRY, "stageless:Stage", tmp_path / "kept", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "ImportError: foreign: []", done.stderr
