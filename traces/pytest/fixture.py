"""The object behind the fixture ``golden_trace``; imported when the fixture is used."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from traces import record
from traces.errors import GoldenNameError, RecorderError, TraceError
from traces.pytest import golden_files
from traces.pytest.frames import leave_out_recorder
from traces.pytest.inventory import CLAIMS, clash_text
from traces.pytest.snapshot import GoldenTraceExtension, find_causes
from traces.pytest.stash import results_of_test, used_goldens
from traces.recording.probes import Target
from traces.recording.recorder import Recorder
from traces.recording.watch import ValueEncoders, Watched, watched_target
from traces.schema.canonical import parse, read_text
from traces.schema.model import SCHEMA, Recording, RoundTrip, Trace
from traces.schema.verdict import Level

if TYPE_CHECKING:
    from syrupy.assertion import AssertionResult, SnapshotAssertion


class GoldenTrace:
    """Records blocks and compares them with goldens.

    Attributes:
        is_used: whether the test asked for a comparison.
    """

    def __init__(self, request: pytest.FixtureRequest, target: str | Target | None) -> None:
        self.is_used = False
        self._request = request
        self._target = target
        self._recordings: dict[str, Recording] = {}
        self._errors: dict[str, Exception] = {}
        snapshot: SnapshotAssertion = request.getfixturevalue("snapshot")
        self._assertion = snapshot.use_extension(GoldenTraceExtension)

    @contextmanager
    def __call__(
        self, name: str, *, watch: Sequence[Watched] = (), values: ValueEncoders | None = None
    ) -> Iterator[Recorder]:
        """Record the block; when it ends well, compare with the golden ``name``.

        A second block of the same test under the same name must do what the first one did. To an
        exception of the block a note is added: what had changed before it was raised.

        Args:
            name: ``[A-Za-z0-9._-]{1,120}``, used by no other test.
            watch: see :func:`traces.record`; without it the fixture ``golden_trace_target``
                decides, and without that ``[tool.goldentrace] watch`` of the root directory.
            values: see :func:`traces.record`.
        """
        self._claim(name)
        recorder = self._recorder(name, watch, values or {})
        raised: BaseException | None = None
        problem: RecorderError | None = None
        try:
            with recorder:
                try:
                    yield recorder
                except BaseException as error:
                    raised = error
                    if isinstance(error, Exception):
                        # Neither an interrupt nor a skip, which no test catches.
                        self._errors[name] = error
                    raise
        except RecorderError as found:
            if raised is None:
                raise _failure(name, found) from None
            problem = found
        except Exception as error:
            leave_out_recorder(error)
            if recorder.is_over:
                self._add_changes(error, name, recorder.recording)
            raise
        if raised is not None:
            # The block's own error comes first: the recorder's problem may well come from it.
            leave_out_recorder(raised)
            if problem is not raised:
                raised.add_note(f"golden_trace {name}: {problem}")
            raise raised
        self._compare(name, recorder.recording)

    def require_comparisons(self) -> None:
        """Fail a test that caught the error of a block: its recording was compared with nothing."""
        for name, error in self._errors.items():
            expected = "an error that is caught inside of the block"
            pytest.fail(
                f"golden_trace {name}: must be compared; expected {expected}, "
                f"got {type(error).__name__} out of it",
                pytrace=False,
            )

    def verify(self, name: str, recording: Recording) -> None:
        """Compare a recording that was made elsewhere with the golden ``name``.

        A recording of no scenario gets the name as its scenario's.
        """
        self._claim(name)
        trace = recording.trace
        if not trace.scenario.name:
            named = msgspec.structs.replace(trace.scenario, name=name)
            trace = msgspec.structs.replace(trace, scenario=named)
        self._compare(name, msgspec.structs.replace(recording, trace=trace))

    def _recorder(self, name: str, watch: Sequence[Watched], values: ValueEncoders) -> Recorder:
        try:
            target = self._target
            if target is None or watch or values:
                root = self._request.config.rootpath
                target = watched_target(watch, values=values, folder=root)
            recorder = record(target=target)
        except RecorderError as problem:
            raise _failure(name, problem) from None
        recorder.scenario(name, {})
        return recorder

    def _claim(self, name: str) -> None:
        """Reserve a golden for the running test, on file systems that ignore case as well."""
        try:
            path = self._golden_path(name)
        except GoldenNameError as error:
            pytest.fail(str(error), pytrace=False)
        self.is_used = True
        config, test = self._request.config, self._request.node.nodeid
        used = config.stash.setdefault(used_goldens, {})
        for other, owner in used.items():
            same_file = str(other).casefold() == str(path).casefold()
            if same_file and (owner != test or other != path):
                pytest.fail(clash_text(name, owner=owner, test=test), pytrace=False)
        owner = self._owner_in_other_workers(path, test)
        if owner != test:
            pytest.fail(clash_text(name, owner=owner, test=test), pytrace=False)
        used[path] = test

    def _golden_path(self, name: str) -> Path:
        location = self._assertion.test_location
        directory = Path(GoldenTraceExtension.dirname(test_location=location))
        return golden_files.golden_path(directory, name)

    def _owner_in_other_workers(self, path: Path, test: str) -> str:
        """Return the test that claims a golden first among the workers of pytest-xdist."""
        folder = getattr(self._request.config, "workerinput", {}).get(CLAIMS)
        if folder is None or not Path(folder).is_dir():
            # No worker, or one on another machine: the controller compares at the end.
            return test
        key = hashlib.sha256(str(path).casefold().encode()).hexdigest()
        claim = Path(folder) / key
        try:
            with claim.open("x", encoding="utf-8") as file:
                file.write(test)
        except FileExistsError:
            return claim.read_text(encoding="utf-8") or "another test"
        return test

    def _compare(self, name: str, recording: Recording) -> None:
        self._errors.pop(name, None)
        _require_round_trips(name, recording.trace)
        self._require_same_as_before(name, recording)
        updating = bool(self._request.config.option.update_snapshots)
        if updating:
            _refuse_newer_schema(self._golden_path(name), name)
        extension = self._assertion.extension
        assert isinstance(extension, GoldenTraceExtension)
        extension.is_exact = updating
        has_matched = self._assertion(name=name) == recording
        result = self._assertion.executions[self._assertion.num_executions - 1]
        self._request.node.stash.setdefault(results_of_test, []).append(result)
        if not has_matched:
            pytest.fail(self._explanation(name, result, recording), pytrace=False)

    def _require_same_as_before(self, name: str, recording: Recording) -> None:
        """Fail the test when it did something else the second time, and name what changed."""
        first = self._recordings.setdefault(name, recording)
        if first is recording:
            return
        blocks = _cause_blocks(first.trace, recording)
        if blocks:
            text = "must be deterministic; expected the same twice, got"
            pytest.fail("\n".join([f"golden_trace {name}: {text}", *blocks]), pytrace=False)

    def _add_changes(self, error: Exception, name: str, recording: Recording) -> None:
        """Add a note to an exception of the block: how it differed from its golden by then."""
        path = self._golden_path(name)
        if not path.exists():
            return
        try:
            golden = parse(read_text(path), subject="golden")
        except TraceError as problem:
            error.add_note(f"golden_trace {name}: {problem}")
            return
        blocks = _cause_blocks(golden, recording)
        if blocks:
            start = f"golden_trace {name}: this differs from {self._shown(path)}"
            error.add_note("\n".join((start, *blocks)))

    def _explanation(self, name: str, result: "AssertionResult", recording: Recording) -> str:
        test = self._request.node.nodeid
        path = Path(result.snapshot_location)
        lines = [f"golden_trace {name}: must be as in {self._shown(path)}"]
        lines += _explain_mismatch(result, recording)
        if golden_files.newer_schema(path):
            lines.append("a newer goldentrace wrote it: install that one")
        else:
            lines.append(f"if this is meant, accept it: pytest --golden-update '{test}'")
        return "\n".join(lines)

    def _shown(self, path: Path) -> Path:
        root = self._request.config.rootpath
        return path.relative_to(root) if path.is_relative_to(root) else path


def _failure(name: str, problem: RecorderError) -> BaseException:
    """Return what fails a test in one line."""
    return pytest.fail.Exception(f"golden_trace {name}: {problem}", pytrace=False)


def _explain_mismatch(result: "AssertionResult", recording: Recording) -> list[str]:
    if isinstance(result.exception, TraceError):
        return [f"  {result.exception}"]
    if result.exception is not None:
        raise result.exception
    if result.recalled_data is None:
        return ["  there is no golden"]
    golden = parse(str(result.recalled_data), subject="golden")
    blocks = _cause_blocks(golden, recording)
    return blocks or ["  the file is not canonical: it was reformatted, or its line ends changed"]


def _cause_blocks(golden: Trace, recording: Recording) -> list[str]:
    """Return a block of lines for each cause that is more than a change of the interface."""
    causes = [
        # The one scenario is the block, which the first line of the message names.
        msgspec.structs.replace(cause, scenarios=())
        for cause in find_causes(golden, recording)
        if cause.level is not Level.INTERFACE
    ]
    # Imported late: only a failure needs it.
    from traces.text.cause_block import PLAIN, render_cause

    blocks = (render_cause(*one, layout=PLAIN) for one in enumerate(causes, start=1))
    return [f"{block}\n" for block in blocks]


def _refuse_newer_schema(path: Path, name: str) -> None:
    """Fail the test when its golden was written by a newer version, which is not replaced."""
    found = golden_files.newer_schema(path)
    if found:
        pytest.fail(
            f"golden_trace {name}: a golden of a newer schema is not replaced; "
            f"expected {SCHEMA} or older, got {found}",
            pytrace=False,
        )


def _require_round_trips(name: str, trace: Trace) -> None:
    """Fail the test when a round trip failed: such a trace is neither compared nor written."""
    for trip in trace.digests:
        if isinstance(trip, RoundTrip) and (trip.foreign_slots or not trip.equal):
            pytest.fail(
                f"golden_trace {name}: round trip of {trip.rows} must restore every row; "
                f"expected equal, got slots {trip.wrong_slots or trip.foreign_slots}",
                pytrace=False,
            )
