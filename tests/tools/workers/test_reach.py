"""What a run reaches of a package: functions in all threads, files, variables, other processes."""

import io
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools.workers.reach import ReachRecorder
from traces.targets.common.fork import run_in_fork
from traces.targets.common.source_reads import CODE_READ, FACT_READ, note_code_read, read_fact

MODULE = """
import os
import threading


def outer():
    def inner():
        return 1
    return inner()


def never():
    return 0


class Pool:
    size = 4

    def rows(self):
        return [one for one in range(self.size)]

    def fail(self):
        raise ValueError("full")


def start(ready, leave):
    thread = threading.Thread(target=wait, args=(ready, leave))
    thread.start()
    ready.wait()
    return thread


def wait(ready, leave):
    helper()
    ready.set()
    leave.wait()


def helper():
    return 1


def generate():
    yield 1
    yield 2
"""


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    (tmp_path / "reachpkg").mkdir()
    (tmp_path / "reachpkg" / "__init__.py").write_text("")
    (tmp_path / "reachpkg" / "pools.py").write_text(MODULE)
    (tmp_path / "reachpkg" / "data.txt").write_text("x")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def reached(root):
    """Return what a function reaches; it is given the module, imported before or in the run."""

    def run(work, *, imports_first=True):
        def in_fork():
            from importlib import import_module

            recorder = ReachRecorder(root, package="reachpkg")
            if imports_first:
                import_module("reachpkg.pools")
            with recorder.watching():
                work(import_module("reachpkg.pools"))
            return recorder.found()

        return run_in_fork(in_fork)

    return run


def test_functions_are_named_by_their_outermost_one(reached):
    found = reached(lambda module: (module.outer(), module.Pool().rows(), list(module.generate())))
    assert dict(found.functions) == {"reachpkg/pools.py": ("Pool.rows", "generate", "outer")}


def test_import_in_the_run_is_the_modules_own_code(reached):
    found = reached(lambda module: None, imports_first=False)
    assert dict(found.functions) == {"reachpkg/__init__.py": ("",), "reachpkg/pools.py": ("",)}
    assert found.opened == ()


def test_function_that_raises_is_reached(reached):
    def work(module):
        with pytest.raises(ValueError, match="full"):
            module.Pool().fail()

    assert dict(reached(work).functions) == {"reachpkg/pools.py": ("Pool.fail",)}


def test_threads_are_watched_also_while_they_run(reached):
    leave = threading.Event()
    found = reached(lambda module: module.start(threading.Event(), leave) and None)
    assert dict(found.functions) == {"reachpkg/pools.py": ("helper", "start", "wait")}
    assert found.unsure == ()


def test_thread_that_threading_does_not_know_makes_the_run_unsure(reached):
    import _thread

    found = reached(lambda module: _thread.start_new_thread(module.never, ()))
    assert found.unsure == ("a thread that was not started by threading",)


def test_opened_files_of_the_package_are_named(reached, root):
    assert reached(lambda _: (root / "reachpkg" / "data.txt").read_text()).opened == (
        "reachpkg/data.txt",
    )
    assert reached(lambda _: Path(__file__).read_text()).opened == ()


def length_of_text(text: str) -> int:
    return len(text)


def test_a_fact_that_is_read_from_a_file_stands_for_the_file(reached, root):
    file = root / "reachpkg" / "pools.py"
    fact = f"{__name__}:length_of_text"
    # Remembered by this process before the fork: the run depends on it all the same.
    read_fact(length_of_text, file)
    for _ in range(2):
        found = reached(lambda _: read_fact(length_of_text, file))
        assert found.opened == ()
        assert found.facts == {fact: {"reachpkg/pools.py": str(len(MODULE))}}
    assert reached(lambda _: None).facts == {}


def test_a_function_whose_code_is_read_is_reached(reached):
    found = reached(lambda module: note_code_read(module.never))
    assert dict(found.functions) == {"reachpkg/pools.py": ("never",)}
    assert (FACT_READ, CODE_READ) == ("goldentrace.fact_read", "goldentrace.code_read")


def test_lines_of_a_traceback_that_is_logged_are_for_people(reached):
    import logging
    import traceback

    logger = logging.Logger("test")  # noqa: LOG001 - of this test alone
    logger.addHandler(logging.StreamHandler(io.StringIO()))

    def log(module):
        try:
            module.Pool().fail()
        except ValueError:
            logger.exception("failed")

    def read(module):
        try:
            module.Pool().fail()
        except ValueError:
            traceback.format_exc()

    assert reached(log).opened == ()
    assert reached(read).opened == ("reachpkg/pools.py",)


def test_variables_are_those_that_were_read_by_name(reached):
    import os

    found = reached(lambda _: (os.environ.get("REACH_A"), os.getenv("REACH_B"), "C" in os.environ))
    assert found.variables == ("C", "REACH_A", "REACH_B")
    assert reached(lambda _: (dict(os.environ), os.environ.copy())).variables == ()


def test_another_python_makes_the_run_unsure_and_another_program_does_not(reached):
    def start(*command):
        return reached(lambda _: subprocess.run(command, check=True)).unsure

    assert start(sys.executable, "-c", "") == ("another process (python)",)
    assert start("true") == ()


def test_part_of_the_variables_read_in_order_is_no_copy(reached):
    import os

    def work(_):
        names = iter(os.environ)
        return [os.environ[next(names)], os.environ.get("REACH_A")]

    first = next(iter(os.environ))
    assert reached(work).variables == tuple(sorted({first, "REACH_A"}))


def test_second_block_begins_empty(root):
    def in_fork():
        recorder = ReachRecorder(root, package="reachpkg")
        from reachpkg import pools

        with recorder.watching():
            pools.outer()
        first = recorder.found()
        with recorder.watching():
            pools.helper()
        return first, recorder.found()

    first, second = run_in_fork(in_fork)
    assert dict(first.functions) == {"reachpkg/pools.py": ("outer",)}
    assert dict(second.functions) == {"reachpkg/pools.py": ("helper",)}


def test_module_that_is_run_without_the_import_system_makes_the_run_unsure(reached, root):
    def work(_):
        exec(compile("def other(): pass", str(root / "reachpkg" / "other.py"), "exec"))
        exec(compile("def other(): pass", str(root / "other.py"), "exec"))

    assert reached(work).unsure == ("a module that was not imported as usual (reachpkg/other.py)",)


def test_package_that_was_imported_before_makes_every_run_unsure(root):
    def in_fork():
        from reachpkg import pools

        recorder = ReachRecorder(root, package="reachpkg")
        with recorder.watching():
            pools.outer()
        return recorder.found().unsure

    assert run_in_fork(in_fork) == ("modules that were imported before (reachpkg)",)
