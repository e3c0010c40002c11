"""Recording of what a target does: calls, buffers, events, messages, outcome.

``with Recorder(target) as recorder:`` watches every probe of the target in all threads. It never
swallows a problem of its own and never changes a result: whatever goes wrong inside it is collected
and raised as :class:`~traces.errors.RecorderError` when the block ends.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any, Self

from traces.errors import RecorderError
from traces.recording import call_recorder, instrument, message_capture, thread_order
from traces.recording.failures import failure_of
from traces.recording.probes import Target
from traces.recording.source_sites import RawSite
from traces.schema import canonical
from traces.schema.life import StateRecord
from traces.schema.model import (
    SCHEMA,
    Call,
    DigestRecord,
    Event,
    Outcome,
    Recording,
    ScenarioRecord,
    Sites,
    StepRecord,
    TensorRecord,
    Trace,
)
from traces.schema.races import Race

_HIDDEN_FILES = frozenset(
    (
        __file__,
        instrument.__file__,
        message_capture.__file__,
        call_recorder.__file__,
        thread_order.__file__,
        # Not imported here, because it needs torch.
        str(Path(__file__).with_name("torch_copies.py")),
    )
)
_recorder_lock = threading.Lock()


class Recorder:
    """Records a ``with`` block, and afterwards holds the recording.

    Attributes:
        target: the code under guard.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._call_recorder = call_recorder.CallRecorder(target, hidden=_HIDDEN_FILES)
        self._is_used = False
        self._recording: Recording | None = None
        self._digests: list[DigestRecord] = []
        self._failed_step: tuple[BaseException | None, str] = (None, "")
        self._scenario = ScenarioRecord(name="", config={})
        self._outcome: Outcome | None = None
        self._active = ExitStack()

    def __enter__(self) -> Self:
        if self._is_used:
            raise RecorderError("record", "serves one block", expected="a new one", got="a used")
        if not _recorder_lock.acquire(blocking=False):
            raise RecorderError("record", "must not nest", expected="no recorder", got="an active")
        self._is_used = True
        with ExitStack() as stack:
            stack.callback(_recorder_lock.release)
            package = self.target.package
            stack.enter_context(
                message_capture.capture_messages(
                    package, self._call_recorder.record_message, hidden=_HIDDEN_FILES
                )
            )
            stack.enter_context(self._call_recorder.observing())
            self._call_recorder.is_open = True
            self._active = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        problems = self._call_recorder.problems
        self._call_recorder.close()
        try:
            self._active.close()
            self._call_recorder.settle()
            recording = self._assemble(error)
        except Exception as problem:  # noqa: BLE001 - raised below, with the others
            problems.append(problem)
        else:
            if not problems and _has_records(recording.trace):
                self._recording = recording
                return
        failure = _incomplete_error(problems) if problems else _empty_error(self.target)
        if error is not None and not (problems and isinstance(error, Exception)):
            # An interrupt is not replaced, and an empty block not judged when it failed; reading
            # the recording then raises.
            error.add_note(str(failure))
            return
        if not problems:
            raise failure
        raise failure from (error or problems[0])

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Name what happens in the block, in all threads; steps may nest, the inner name counts."""
        outer, self._call_recorder.step = self._call_recorder.step, name
        try:
            yield
        except BaseException as error:
            if self._failed_step[0] is not error:
                self._failed_step = (error, name)
            raise
        finally:
            self._call_recorder.step = outer

    def scenario(self, name: str, config: dict[str, Any]) -> None:
        """Set the scenario; ``config`` is plain JSON, enum members and tuples allowed.

        Raises:
            TraceFormatError: a value of ``config`` is not plain.
        """
        self._scenario = ScenarioRecord(name=name, config=canonical.plain_config(config))

    def outcome(self, outcome: Outcome) -> None:
        """Set the outcome; by default the end of the block decides it."""
        self._outcome = outcome

    def digest(self, record: StepRecord) -> None:
        """Add a digest, the result of a round trip, or the state of a cache in order of events."""
        if isinstance(record, StateRecord):
            self._call_recorder.record_state(record)
        else:
            self._digests.append(record)

    def race(self, record: Race, *, sites: Sequence[RawSite]) -> None:
        """Add a race that the device found in the current step.

        ``sites`` are lines that led to its accesses; the first of the target's own is kept.
        """
        self._call_recorder.record_race(record, sites)

    def define(self, callee: str, function: FunctionType) -> None:
        """Keep the line of a function that no probe watches; the first one of a name counts."""
        self._call_recorder.owners_of_callees.setdefault(callee, (function, None))

    @property
    def is_over(self) -> bool:
        """True once the block has ended and its records were put together."""
        return self._recording is not None

    @property
    def recording(self) -> Recording:
        """Trace and sites.

        Raises:
            RecorderError: the block has not ended, or could not be recorded.
        """
        if self._recording is None:
            raise RecorderError("record", "must be over", expected="a finished block", got="none")
        return self._recording

    @property
    def trace(self) -> Trace:
        """The trace; see :attr:`recording`."""
        return self.recording.trace

    @property
    def sites(self) -> Sites | None:
        """Source places; see :attr:`recording`."""
        return self.recording.sites

    @property
    def calls(self) -> tuple[Call, ...]:
        """Calls of the trace."""
        return self.trace.calls

    @property
    def tensors(self) -> tuple[TensorRecord, ...]:
        """Buffers of the trace."""
        return self.trace.tensors

    @property
    def events(self) -> tuple[Event, ...]:
        """Events of the trace."""
        return self.trace.events

    @property
    def digests(self) -> tuple[DigestRecord, ...]:
        """Digests of the trace."""
        return self.trace.digests

    def _assemble(self, error: BaseException | None) -> Recording:
        tensors = self._call_recorder.tensors()
        trace = Trace(
            schema=SCHEMA,
            scenario=self._scenario,
            calls=self._call_recorder.calls(),
            tensors=tensors,
            events=self._call_recorder.events(),
            digests=tuple(self._digests),
            outcome=self._outcome or self._block_outcome(error),
            objects=self._call_recorder.objects(),
        )
        return Recording(trace=trace, sites=self._call_recorder.sites(error))

    def _block_outcome(self, error: BaseException | None) -> Outcome:
        """Return the outcome of the block itself."""
        if error is None:
            return Outcome(ok=True, failed_step="", failure=None)
        failed, step = self._failed_step
        failed_step = step if failed is error else ""
        return Outcome(ok=False, failed_step=failed_step, failure=failure_of(error))


def _has_records(trace: Trace) -> bool:
    return bool(trace.calls or trace.tensors or trace.events or trace.digests)


def _empty_error(target: Target) -> RecorderError:
    """Return the error for a trace that would be equal to every other run of the block."""
    got = f"none in {target.package}; other code is named by watch=[...]"
    expected = "a call, a tensor or an event"
    return RecorderError("record", "must see something", expected=expected, got=got)


def _incomplete_error(problems: list[Exception]) -> RecorderError:
    first, more = problems[0], len(problems) - 1
    kind = "" if isinstance(first, RecorderError) else f"{type(first).__name__}: "
    rest = f" (and {more} more)" if more else ""
    return RecorderError(
        "record", "must see everything", expected="no problem", got=f"{kind}{first}{rest}"
    )
