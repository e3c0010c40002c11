"""Hooks of the probes, which record calls and events in order, in all threads.

Everything a hook does for the record runs under one lock with the thread marked busy, so that what
the record itself calls is not recorded. An exception in there is kept for the end of the recording.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FunctionType
from typing import Any, Literal, ParamSpec, TypeVar

import msgspec

from traces.errors import RecorderError
from traces.recording.binding import ArgumentBinder, BoundArgument
from traces.recording.buffers import BufferRecorder
from traces.recording.encode import FACTORY_DEFAULT, Encoder, Plain
from traces.recording.event_log import EventLog
from traces.recording.failures import failure_of
from traces.recording.instrument import Hook, instrumented
from traces.recording.object_ids import ObjectIds, OwnerNames
from traces.recording.open_call import OpenCall, ThreadState, is_super_call
from traces.recording.probe_binders import binder_of_probe
from traces.recording.probes import (
    CallProbe,
    CopyObservation,
    CopyProbe,
    EventProbe,
    Observation,
    Target,
    ThreadProbe,
)
from traces.recording.source_sites import RawSite, SourceSites
from traces.recording.thread_order import ThreadNumber, ThreadOrder, by_thread
from traces.schema.labels import object_label
from traces.schema.life import StateRecord
from traces.schema.model import Argument, Call, Event, Location, Message, Sites, TensorRecord
from traces.schema.races import Race

_P = ParamSpec("_P")
_R = TypeVar("_R")

_CONSTRUCTOR = "__init__"


class CallRecorder:
    """Collects the calls, buffers and events that the probes of one target observe.

    Attributes:
        step: name of the current step, for all threads.
        is_open: hooks pass calls through while it is false.
        problems: errors of the recorder itself.
    """

    def __init__(self, target: Target, *, hidden: frozenset[str]) -> None:
        self.step = ""
        self.is_open = False
        self.problems: list[Exception] = []
        self._target = target
        self._lock = threading.RLock()
        self._thread = ThreadState()
        self._source_sites = SourceSites(root=target.root, package=target.package, hidden=hidden)
        self._labels = ObjectIds()
        self._objects: dict[str, str] = {}
        self._owners = OwnerNames()
        self._buffers = BufferRecorder(target)
        self._encoder = Encoder(self._labels, on_reference=self._label_object)
        self._calls: list[OpenCall] = []
        self._call_counts: Counter[str] = Counter()
        self.owners_of_callees: dict[str, tuple[FunctionType, type | None]] = {}
        self._defaults: dict[str, dict[str, Any]] = {}
        self._events = EventLog(
            target,
            encoder=self._encoder,
            owners=self._owners,
            buffers=self._buffers,
            label=self._label_object,
        )
        self._event_sites: list[RawSite | None] = []
        self._event_threads: list[ThreadNumber] = []
        self._threads = ThreadOrder()

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Register the target's types and observe through all of its probes in the block."""
        self._target.register_types(self._encoder)
        probes = self._target.probes()
        calls = (probe for probe in probes if isinstance(probe, CallProbe | EventProbe))
        hooks = {probe.function: self._hook(probe) for probe in calls}
        with ExitStack() as stack:
            stack.enter_context(instrumented(hooks))
            for probe in probes:
                if isinstance(probe, ThreadProbe):
                    self._threads = ThreadOrder(probe.role_of)
                    stack.enter_context(self._threads.numbered())
                if isinstance(probe, CopyProbe):
                    # Imported late: only targets that use torch have such a probe.
                    from traces.recording.torch_copies import observed_copies

                    stack.enter_context(observed_copies(self._on_copy, probe.stream_of))
            yield

    def close(self) -> None:
        """Pass every later call through, those in other threads included."""
        with self._lock:
            self.is_open = False

    def record_message(self, level: Literal["warning", "error"], text: str) -> None:
        """Add a message."""
        if self.is_open and not self._thread.is_busy:
            message = Message(step=self.step, level=level, text=text)
            self._guarded(self._add_record, message, None)

    def record_race(self, race: Race, sites: Sequence[RawSite]) -> None:
        """Add a race that the device found, with the lines that led to it."""
        if self.is_open:
            named = msgspec.structs.replace(race, step=self.step)
            self._guarded(self._add_record, named, self._source_sites.own_site(sites))

    def record_state(self, record: StateRecord) -> None:
        """Add the state of a cache."""
        self._guarded(self._add_state, record)

    def settle(self) -> None:
        """Finish what could not be finished at once. Call it after :meth:`close`.

        Raises:
            RecorderError: a call is still running in some thread.
        """
        self._encoder.settle()
        running = [call.label for call in self._calls if not call.is_over]
        if running:
            raise RecorderError(
                "record", "calls must be over", expected="none running", got=", ".join(running)
            )

    def calls(self) -> tuple[Call, ...]:
        """Return all calls in the order in which they began."""
        return tuple(
            Call(
                call=call.label,
                parent=call.parent,
                caller=call.caller,
                step=call.step,
                role=call.probe.role,
                part=call.probe.part,
                callee=call.callee,
                arguments=tuple(call.arguments),
                returns=call.returns,
                raises=call.raises,
                unbound=call.unbound,
            )
            for call in by_thread(self._calls, [call.thread for call in self._calls])
        )

    def tensors(self) -> tuple[TensorRecord, ...]:
        """Return all buffers in the order in which their pools were complete."""
        return self._buffers.records(self._owners)

    def objects(self) -> dict[str, str]:
        """Return the class of every labelled object by its label, in order of first sight."""
        return dict(self._objects)

    def events(self) -> tuple[Event, ...]:
        """Return all events in the order in which they were over."""
        return by_thread(self._events.events(), self._event_threads)

    def sites(self, error: BaseException | None) -> Sites:
        """Return the source lines of calls and events. Call it when no probe is hooked any more.

        Args:
            error: the exception that ended it, if any.
        """
        failed = None if error is None else self._source_sites.failure_site(error)
        definitions: dict[str, Location] = {}
        for callee, (function, owner) in self.owners_of_callees.items():
            raw = self._source_sites.definition_site(function, owner)
            if raw is not None:
                definitions[callee] = self._source_sites.site(raw)
        return Sites(
            calls={call.label: self._source_sites.site(call.site) for call in self._calls},
            definitions=definitions,
            events=tuple(
                None if raw is None else self._source_sites.site(raw)
                for raw in by_thread(self._event_sites, self._event_threads)
            ),
            failure=None if failed is None else self._source_sites.site(failed),
            defaults=dict(self._defaults),
        )

    def _hook(self, probe: CallProbe | EventProbe) -> Hook:
        on_call = self._on_call if isinstance(probe, CallProbe) else self._on_event
        return partial(on_call, probe, binder_of_probe(probe))  # type: ignore[arg-type] # its own kind

    def _on_call(
        self,
        probe: CallProbe,
        binder: ArgumentBinder,
        original: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> object:
        thread, __tracebackhide__ = self._thread, True  # pytest shows no frame of ours
        if thread.is_busy or not self.is_open or is_super_call(thread.calls, probe, args):
            return original(*args, **kwargs)
        call = self._guarded(self._open_call, probe, binder, args, kwargs)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            self._guarded(self._close_call, call, None, error)
            raise
        self._guarded(self._close_call, call, result, None)
        return result

    def _on_event(
        self,
        probe: EventProbe,
        binder: ArgumentBinder,
        original: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> object:
        thread, family = self._thread, probe.family
        is_inner = probe.nesting == "outermost" and thread.depth[family] > 0
        if thread.is_busy or not self.is_open or is_inner:
            return original(*args, **kwargs)
        observed_before = thread.observed[family]
        thread.depth[family] += 1
        try:
            result = original(*args, **kwargs)
        finally:
            thread.depth[family] -= 1
        if probe.nesting == "innermost" and thread.observed[family] != observed_before:
            return result
        thread.observed[family] += 1
        self._guarded(self._observe, probe, binder, args, kwargs, result)
        return result

    def _on_copy(self, observation: CopyObservation) -> None:
        if self.is_open and not self._thread.is_busy:
            self._guarded(self._add, observation)

    def _guarded(self, work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        thread = self._thread
        with self._lock:
            thread.is_busy = True
            try:
                return work(*args, **kwargs)
            except Exception as problem:  # noqa: BLE001 - raised when the recording ends
                self.problems.append(problem)
                return None
            finally:
                thread.is_busy = False

    def _open_call(
        self,
        probe: CallProbe,
        binder: ArgumentBinder,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> OpenCall:
        subject = args[0] if probe.method and args else None
        callee = self._callee(probe, subject)
        self._call_counts[callee] += 1
        calls = self._thread.calls
        bound, unbound = binder.bind(args, kwargs)
        call = OpenCall(
            label=object_label(callee, self._call_counts[callee]),
            parent=calls[-1].label if calls else "",
            caller=calls[-1].callee if calls else "",
            step=self.step,
            probe=probe,
            callee=callee,
            site=self._source_sites.current_site(),
            thread=self._threads.current(),
            subject=subject,
            bound=bound,
            unbound=unbound,
        )
        self._calls.append(call)
        calls.append(call)
        self.owners_of_callees.setdefault(
            callee, (probe.function, type(subject) if probe.method else None)
        )
        self._defaults.setdefault(callee, binder.plain_defaults)
        if probe.method == _CONSTRUCTOR:
            # Labelled before anything refers to it: its buffers are read when it is complete.
            self._label(subject, callee)
        call.arguments = [self._argument(callee, argument) for argument in call.bound]
        return call

    def _close_call(
        self, call: OpenCall | None, result: object, error: BaseException | None
    ) -> None:
        if call is None:
            return
        self._thread.calls.remove(call)
        call.is_over = True
        subject, bound = call.subject, call.bound
        call.subject, call.bound = None, ()
        if error is not None:
            call.raises = failure_of(error)
            return
        if call.probe.method == _CONSTRUCTOR:
            self._close_constructor(call, subject, bound)
        else:
            call.returns = self._encode(result, f"{call.callee}.return")
            if call.probe.shows_subject:
                self._buffers.snapshot(subject, self._label_object(subject), again=True)
        if call.probe.names_pools is not None:
            values = {"self": subject, **{argument.name: argument.value for argument in bound}}
            for naming in call.probe.names_pools(values):
                label = self._label_object(naming.holder)
                self._owners.name(label, side=naming.side, pool=naming.pool)

    def _close_constructor(
        self, call: OpenCall, subject: object, bound: tuple[BoundArgument, ...]
    ) -> None:
        label = self._label(subject, call.callee)
        call.returns = {"ref": label}
        self._buffers.snapshot(subject, label, again=call.probe.shows_subject)
        for number, argument in enumerate(bound):
            if argument.value is FACTORY_DEFAULT:
                made = msgspec.structs.replace(argument, value=getattr(subject, argument.name))
                call.arguments[number] = self._argument(call.callee, made)

    def _argument(self, callee: str, argument: BoundArgument) -> Argument:
        value: Plain = {"default": "factory"}
        if argument.value is not FACTORY_DEFAULT:
            value = self._encode(argument.value, f"{callee}.{argument.name}")
        return Argument(name=argument.name, value=value, given=argument.given)

    def _encode(self, value: object, where: str) -> Plain:
        """Return the encoded value; a problem with one value does not hide those of the others."""
        try:
            return self._encoder.encode(value, where)
        except Exception as problem:  # noqa: BLE001 - raised when the recording ends
            self.problems.append(problem)
            return None

    def _callee(self, probe: CallProbe, subject: object) -> str:
        """Return the probe's name with the class that the object really has."""
        name = self._labels.name_of(type(subject)) if probe.method else None
        if name is None:
            return probe.callee
        return name if probe.method == _CONSTRUCTOR else f"{name}.{probe.method}"

    def _label(self, thing: object, otherwise: str) -> str:
        name = self._labels.name_of(type(thing)) or otherwise
        label = self._labels.label(thing, name)
        self._objects.setdefault(label, name)
        return label

    def _label_object(self, thing: object) -> str:
        """Return the label of an object; a pool made before the recording is read now."""
        known = self._labels.known_label(thing)
        if known is not None:
            return known
        label = self._label(thing, type(thing).__name__)
        self._buffers.snapshot(thing, label)
        return label

    def _observe(
        self,
        probe: EventProbe,
        binder: ArgumentBinder,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: object,
    ) -> None:
        values = binder.values(args, kwargs)
        assert values is not None, "a call that returned did bind"
        observed = probe.observe(values, result)
        if observed is None:
            return
        for observation in observed if isinstance(observed, tuple) else (observed,):
            self._add(observation)

    def _add(self, observation: Observation) -> None:
        if self._events.add(observation, step=self.step):
            self._locate_event()

    def _add_record(self, record: Message | Race, site: RawSite | None) -> None:
        self._events.add_record(record)
        self._locate_event(site)

    def _add_state(self, record: StateRecord) -> None:
        self._events.add_record(record)
        # No line of the target makes it: the scenario looks.
        self._event_sites.append(None)
        self._event_threads.append(self._threads.current())

    def _locate_event(self, site: RawSite | None = None) -> None:
        self._event_sites.append(site or self._source_sites.current_site())
        self._event_threads.append(self._threads.current())
