"""Hooks on Python functions that no way of calling them escapes.

A function object is what every reference to it shares: an attribute of a module or class, a
``from x import f`` copy, an entry of a registry, the inside of a ``functools.partial``, a bound
method kept in a list. Replacing *attributes* (``unittest.mock``, wrapt) reaches only the attribute
that is replaced, so all the copies made before go unseen. Watching *frames* (``sys.setprofile``,
``sys.monitoring``) reaches them all but comes too late: a frame holds the parameters after binding,
where ``f(4)`` and ``f()`` with a default of 4 look the same.

So the function object stays and its ``__code__`` is replaced by a trampoline that takes
``(*args, **kwargs)`` as the caller wrote them. The hook that it calls is one of its constants, so
the function's own globals, which the trampoline shares, are left alone. A code object can only
replace another with as many free variables (a method that uses ``super()`` has ``__class__``), so
trampolines are compiled for each number of them. The hook gets the original as a function of its
own, made of the original code, globals, defaults and closure.

Nothing is left behind: with no instrumentation active the code objects are the original ones.
While it is active, ``__signature__`` keeps ``inspect.signature`` truthful.
"""

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import CodeType, FunctionType
from typing import Any, Protocol

from traces.errors import InstrumentError
from traces.recording.binding import signature_of

TRAMPOLINE_FILE = "<goldentrace trampoline>"

_HOOK = "goldentrace hook"
_COROUTINES = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR | _COROUTINES
_lock = threading.Lock()
_active: dict[int, "_ReplacedFunction"] = {}


class Hook(Protocol):
    """A replacement for an instrumented function, which decides whether and how to call it."""

    def __call__(
        self, original: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        """Return the result for the caller, who wrote ``args`` and ``kwargs`` just like this.

        ``original`` is the function as it was; calling it is not seen again, its recursion is.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReplacedFunction:
    function: FunctionType
    code: CodeType
    trampoline: CodeType
    signature: inspect.Signature | None
    """To be shown meanwhile; None when the function has an explicit one of its own."""


@contextmanager
def instrumented(hooks: Mapping[FunctionType, Hook]) -> Iterator[None]:
    """Call hooks in place of functions, in all threads, for the duration of the block.

    Raises:
        InstrumentError: something is not a plain Python function, or is instrumented already;
            nothing was changed then. On leaving: other code replaced the trampoline meanwhile.
    """
    for function in hooks:
        require_plain_function(function)
    replaced = _replace(hooks)
    try:
        yield
    finally:
        _restore(replaced)


def require_plain_function(function: object) -> None:
    """Check that a trampoline can replace a function.

    Raises:
        InstrumentError: not a function written in Python, or one whose body can be suspended.
    """
    subject = getattr(function, "__qualname__", repr(function))
    if not isinstance(function, FunctionType):
        rule, got = "must be a Python function", type(function).__name__
        raise InstrumentError(subject, rule, expected="a function object", got=got)
    if function.__code__.co_flags & _SUSPENDABLE:
        rule, got = "body must run in one go", "a generator or coroutine function"
        raise InstrumentError(subject, rule, expected="a plain function", got=got)


def still_instrumented() -> tuple[str, ...]:
    """Return the qualified names of the functions that are instrumented at this moment."""
    with _lock:
        return tuple(entry.function.__qualname__ for entry in _active.values())


def _replace(hooks: Mapping[FunctionType, Hook]) -> list[_ReplacedFunction]:
    with _lock:
        for function in hooks:
            if id(function) in _active:
                rule, got = "must be instrumented once", "a trampoline"
                raise InstrumentError(function.__qualname__, rule, expected="its own code", got=got)
        # Prepared before the first change, so that a failure changes nothing.
        prepared = [_prepare(function, hook) for function, hook in hooks.items()]
        for entry in prepared:
            _active[id(entry.function)] = entry
            if entry.signature is not None:
                entry.function.__signature__ = entry.signature  # type: ignore[attr-defined]
            # Frames that run already keep the old code object; only later calls are hooked.
            entry.function.__code__ = entry.trampoline
        return prepared


def _restore(replaced: list[_ReplacedFunction]) -> None:
    foreign = []
    with _lock:
        for entry in replaced:
            if entry.function.__code__ is not entry.trampoline:
                foreign.append(entry.function.__qualname__)
            entry.function.__code__ = entry.code
            if entry.signature is not None:
                entry.function.__dict__.pop("__signature__", None)
            del _active[id(entry.function)]
    if foreign:
        rule = "code must not change while instrumented"
        got = "other code, now replaced by the original"
        raise InstrumentError(", ".join(foreign), rule, expected="the trampoline", got=got)


def _prepare(function: FunctionType, hook: Hook) -> _ReplacedFunction:
    code = function.__code__
    original = FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    original.__kwdefaults__ = function.__kwdefaults__
    original.__qualname__ = function.__qualname__
    template = trampoline_template(len(code.co_freevars))
    bound = partial(hook, original)
    trampoline = template.replace(
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_freevars=code.co_freevars,
        co_consts=tuple(bound if item == _HOOK else item for item in template.co_consts),
    )
    signature = None if "__signature__" in function.__dict__ else signature_of(function)
    return _ReplacedFunction(
        function=function, code=code, trampoline=trampoline, signature=signature
    )


@cache
def trampoline_template(free_variables: int) -> CodeType:
    """Compile a trampoline with this many free variables and a placeholder for its hook."""
    names = ", ".join(f"free_{number}" for number in range(free_variables))
    source = (
        f"def factory({names}):\n"
        "    def trampoline(*args, **kwargs):\n"
        f"        hook = {_HOOK!r}\n"
        "        return hook(args, kwargs)\n"
        f"        {names or 'pass'}\n"
        "    return trampoline.__code__\n"
    )
    namespace: dict[str, Any] = {}
    exec(compile(source, TRAMPOLINE_FILE, "exec"), namespace)
    template: CodeType = namespace["factory"](*range(free_variables))
    assert len(template.co_freevars) == free_variables
    return template
