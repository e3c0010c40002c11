"""The object behind the fixture ``golden_trace``; imported when the fixture is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from traces import record
from traces.errors import GoldenNameError, TraceError
from traces.pytest import golden_files
from traces.pytest.snapshot import GoldenTraceExtension, find_causes
from traces.pytest.stash import results_of_test, used_goldens
from traces.recording.probes import Target
from traces.recording.recorder import Recorder
from traces.schema.canonical import parse
from traces.schema.model import Recording, RoundTrip, Trace
from traces.schema.verdict import Cause, Level

if TYPE_CHECKING:
    from syrupy.assertion import AssertionResult, SnapshotAssertion


class GoldenTrace:
    """Records blocks and compares them with goldens.

    Attributes:
        is_used: whether the test asked for a comparison.
    """

    def __init__(self, request: pytest.FixtureRequest, target: str | Target) -> None:
        self.is_used = False
        self._request = request
        self._target = target
        snapshot: SnapshotAssertion = request.getfixturevalue("snapshot")
        self._assertion = snapshot.use_extension(GoldenTraceExtension)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Recorder]:
        """Record the block; when it ends well, compare with the golden ``name``.

        Raises:
            GoldenNameError: the name is unfit or taken.
            RecorderError: the block could not be recorded.
        """
        self._claim(name)
        with record(target=self._target) as recorder:
            recorder.scenario(name, {})
            yield recorder
        self._compare(name, recorder.recording)

    def verify(self, name: str, recording: Recording) -> None:
        """Compare a recording that was made elsewhere with the golden ``name``.

        A recording of no scenario gets the name as its scenario's.

        Raises:
            GoldenNameError: the name is unfit or taken.
        """
        self._claim(name)
        trace = recording.trace
        if not trace.scenario.name:
            named = msgspec.structs.replace(trace.scenario, name=name)
            trace = msgspec.structs.replace(trace, scenario=named)
        self._compare(name, msgspec.structs.replace(recording, trace=trace))

    def _claim(self, name: str) -> None:
        """Reserve a golden for the running test, on file systems that ignore case as well."""
        self.is_used = True
        config, test = self._request.config, self._request.node.nodeid
        location = self._assertion.test_location
        path = golden_files.golden_path(
            Path(GoldenTraceExtension.dirname(test_location=location)), name
        )
        used = config.stash.setdefault(used_goldens, {})
        for other, owner in used.items():
            same_file = str(other).casefold() == str(path).casefold()
            if same_file and (owner != test or other != path):
                subject = f"golden {name}"
                raise GoldenNameError(subject, "belongs to one test", expected=owner, got=test)
        used[path] = test

    def _compare(self, name: str, recording: Recording) -> None:
        _require_round_trips(name, recording.trace)
        updating = bool(self._request.config.option.update_snapshots)
        extension = self._assertion.extension
        assert isinstance(extension, GoldenTraceExtension)
        extension.is_exact = updating
        has_matched = self._assertion(name=name) == recording
        result = self._assertion.executions[self._assertion.num_executions - 1]
        self._request.node.stash.setdefault(results_of_test, []).append(result)
        if not has_matched:
            pytest.fail(self._explanation(name, result, recording), pytrace=False)

    def _explanation(self, name: str, result: "AssertionResult", recording: Recording) -> str:
        path = Path(result.snapshot_location)
        root = self._request.config.rootpath
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        test = self._request.node.nodeid
        return "\n".join(
            (
                f"golden_trace {name}: must be as in {shown}",
                *_explain_mismatch(result, recording),
                f"if this is meant, accept it: pytest --snapshot-update '{test}'",
            )
        )


def _explain_mismatch(result: "AssertionResult", recording: Recording) -> list[str]:
    if isinstance(result.exception, TraceError):
        return [f"  {result.exception}"]
    if result.exception is not None:
        raise result.exception
    if result.recalled_data is None:
        return ["  there is no golden"]
    golden = parse(str(result.recalled_data), subject="golden")
    found = find_causes(golden, recording)
    causes = [cause for cause in found if cause.level is not Level.INTERFACE]
    if not causes:
        return ["  the file is not canonical: it was reformatted, or its line ends changed"]
    return [line for cause in causes for line in _cause_lines(cause)]


def _cause_lines(cause: Cause) -> list[str]:
    consequences = [
        f"    {one.kind} {one.where}: {one.before} -> {one.after}" for one in cause.consequences
    ]
    return [f"  {cause.headline()}", *consequences]


def _require_round_trips(name: str, trace: Trace) -> None:
    """Fail the test when a round trip failed: such a trace is neither compared nor written."""
    for trip in trace.digests:
        if isinstance(trip, RoundTrip) and (trip.foreign_slots or not trip.equal):
            pytest.fail(
                f"golden_trace {name}: round trip of {trip.rows} must restore every row; "
                f"expected equal, got slots {trip.wrong_slots or trip.foreign_slots}",
                pytrace=False,
            )
