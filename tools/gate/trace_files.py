"""Trace files outside the goldens: writing and comparing them."""

from collections.abc import Mapping
from pathlib import Path

from tools.errors import ToolError, require_writable_path
from tools.gate.request import GateResult
from tools.goldens.golden_set import golden_names
from traces.diff import compare_sides
from traces.pytest.golden_files import golden_path
from traces.schema.canonical import read_recording, render, render_sites, sites_path_of
from traces.schema.model import Recording
from traces.schema.transaction import Transaction


def require_writable(folder: Path) -> None:
    """Create a folder for traces, before time is spent on a run.

    Raises:
        ToolError: it cannot be created or written.
    """
    with require_writable_path(folder, expected="a writable directory"):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".goldentrace-probe"
        probe.touch()
        probe.unlink()


def write_traces(recordings: Mapping[str, Recording], *, folder: Path) -> tuple[Path, ...]:
    """Write every trace and its sites in one transaction; return the traces' paths.

    Raises:
        ToolError: the folder cannot be written.
    """
    paths: list[Path] = []
    with (
        require_writable_path(folder, expected="a writable directory"),
        Transaction() as transaction,
    ):
        for name, recording in recordings.items():
            path = golden_path(folder, name)
            paths.append(path)
            transaction.write(path, render(recording.trace).encode())
            if recording.sites is not None:
                transaction.write(sites_path_of(path), render_sites(recording.sites).encode())
        transaction.commit()
    return tuple(paths)


def compare_paths(base: Path, head: Path) -> GateResult:
    """Compare two trace files, or all traces of two directories by file name.

    Raises:
        ToolError: one is a file and the other a directory, or neither holds a trace.
        TraceFormatError: a file is no trace.
    """
    bases, heads = _read_traces(base), _read_traces(head)
    if base.is_dir() != head.is_dir():
        kinds = {True: "a directory", False: "a file"}
        rule = f"must be of the kind of {base}"
        raise ToolError(str(head), rule, expected=kinds[base.is_dir()], got=kinds[head.is_dir()])
    if not bases and not heads:
        raise ToolError(str(head), "must hold traces", expected="at least one", got=0)
    if not base.is_dir():
        # Two files are compared whatever they and their scenarios are called.
        [name] = (recording.trace.scenario.name for recording in heads.values())
        bases, heads = {name: bases[""]}, {name: heads[""]}
    return GateResult(head=heads, causes=compare_sides(bases, heads))


def _read_traces(path: Path) -> Mapping[str, Recording]:
    if not path.exists():
        raise ToolError(str(path), "must exist", expected="a trace or a directory", got="nothing")
    if not path.is_dir():
        return {"": read_recording(path)}
    return {name: read_recording(golden_path(path, name)) for name in sorted(golden_names(path))}
