"""Binding of arguments that distinguishes given ones from defaults, cheap enough for every call."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from traces.schema.model import Unbound

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_PLAIN_TYPES = (type(None), bool, int, float, str)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class BoundArgument(msgspec.Struct, frozen=True, kw_only=True):
    """One argument as the callee sees it."""

    name: str
    value: object
    given: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownSignature:
    """A signature, and what it was read from."""

    code: CodeType
    defaults: tuple[Any, ...] | None
    keyword_defaults: dict[str, Any] | None
    signature: inspect.Signature

    def is_of(self, function: FunctionType) -> bool:
        """Return whether a function has not got another signature meanwhile."""
        return (
            function.__code__ is self.code
            and function.__defaults__ is self.defaults
            and function.__kwdefaults__ == self.keyword_defaults
            and not function.__dict__
        )


_signatures: WeakKeyDictionary[FunctionType, _KnownSignature] = WeakKeyDictionary()
_binders: WeakKeyDictionary[FunctionType, dict[bool, "ArgumentBinder"]] = WeakKeyDictionary()


def signature_of(function: FunctionType) -> inspect.Signature:
    """Return the signature of a function, which is read once.

    Forks of this process know what it has read. A function with attributes, which may state another
    signature, is read again each time.
    """
    known = _signatures.get(function)
    if known is None or not known.is_of(function):
        signature = inspect.signature(function)
        if function.__dict__:
            return signature
        defaults = function.__kwdefaults__
        known = _signatures[function] = _KnownSignature(
            code=function.__code__,
            defaults=function.__defaults__,
            keyword_defaults=None if defaults is None else dict(defaults),
            signature=signature,
        )
    return known.signature


def binder_of(function: FunctionType, *, skip_first: bool) -> "ArgumentBinder":
    """Return the binder of a function, which is made once for each signature."""
    known = _binders.setdefault(function, {})
    binder = known.get(skip_first)
    if binder is None or binder.signature is not signature_of(function):
        binder = known[skip_first] = ArgumentBinder(function, skip_first=skip_first)
    return binder


class ArgumentBinder:
    """Binds calls of one function that is not instrumented yet.

    Attributes:
        signature: of the function.
    """

    def __init__(self, function: FunctionType, *, skip_first: bool) -> None:
        self.signature = signature_of(function)
        parameters = list(self.signature.parameters.values())
        kinds = {parameter.name: parameter.kind for parameter in parameters}
        self._function = function.__qualname__
        self._skip = 1 if skip_first else 0
        self._positional = [name for name, kind in kinds.items() if kind in _POSITIONAL]
        self._named = frozenset(name for name, kind in kinds.items() if kind in _NAMED)
        self._rest = _single_of_kind(kinds, inspect.Parameter.VAR_POSITIONAL)
        self._extra = _single_of_kind(kinds, inspect.Parameter.VAR_KEYWORD)
        self._order = list(kinds)[self._skip :]
        self._declared = [name for name in kinds if name not in (self._rest, self._extra)]
        self._defaults = {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.default is not inspect.Parameter.empty
        }
        self._required = kinds.keys() - self._defaults.keys() - {self._rest, self._extra}

    @cached_property
    def plain_defaults(self) -> dict[str, Any]:
        """The defaults that are plain values, in the form that a trace has.

        An empty tuple is an empty list there, a member of an enumeration its value. No other
        default is compared with anything: it may be of a foreign type.
        """
        defaults = self._defaults.items()
        return {name: _recorded_form(value) for name, value in defaults if _is_plain(value)}

    def values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """Return the named parameters in signature order, or None when the call cannot bind."""
        if not kwargs and len(args) == len(self._declared) == len(self._positional):
            return dict(zip(self._declared, args, strict=True))
        given = self._bind_given(args, kwargs)
        if given is None:
            return None
        bound = self._defaults | given
        return {name: bound[name] for name in self._declared}

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[BoundArgument, ...], Unbound | None]:
        """Return the arguments in signature order, and which ones do not fit; None if all do.

        ``*args`` become ``args[0]``, ``**kwargs`` become ``kwargs.key`` in order of the keys. A
        call that cannot bind gives what it has, each by its name as far as there is one; the callee
        will raise.
        """
        given = self._bind_given(args, kwargs)
        if given is not None:
            return tuple(self._bound(args, kwargs, given)), None
        return tuple(self._unbound_arguments(args, kwargs)), self._unbound(args, kwargs)

    def _unbound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Unbound:
        given = {*self._positional[: len(args)], *kwargs}
        unknown = (name for name in kwargs if name not in self._named and self._extra is None)
        return Unbound(
            function=self._function,
            missing=tuple(name for name in self._order if name in self._required - given),
            unexpected=next(unknown, ""),
        )

    def _bind_given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        if len(args) > len(self._positional) and self._rest is None:
            return None
        given = dict(zip(self._positional, args, strict=False))
        for name, value in kwargs.items():
            if name in self._named:
                if name in given:
                    return None
                given[name] = value
            elif self._extra is None:
                return None
        return given if self._required <= given.keys() else None

    def _bound(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]
    ) -> Iterator[BoundArgument]:
        values = self._defaults | given
        for name in self._order:
            if name == self._rest:
                for number, value in enumerate(args[len(self._positional) :]):
                    yield BoundArgument(name=f"{name}[{number}]", value=value, given=True)
            elif name == self._extra:
                for key in sorted(kwargs.keys() - self._named):
                    yield BoundArgument(name=f"{name}.{key}", value=kwargs[key], given=True)
            else:
                yield BoundArgument(name=name, value=values[name], given=name in given)

    def _unbound_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[BoundArgument]:
        names = self._positional[self._skip :]
        for number, value in enumerate(args[self._skip :]):
            is_named = number < len(names) and names[number] not in kwargs
            name = names[number] if is_named else f"args[{number}]"
            yield BoundArgument(name=name, value=value, given=True)
        for name, value in kwargs.items():
            yield BoundArgument(name=name, value=value, given=True)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) == 0
    return type(value) in _PLAIN_TYPES or (
        isinstance(value, Enum) and isinstance(value, _PLAIN_TYPES)
    )


def _recorded_form(value: Any) -> Any:  # noqa: ANN401 - a plain value
    if isinstance(value, tuple):
        return []
    return value.value if isinstance(value, Enum) else value


def _single_of_kind(kinds: Mapping[str, Any], wanted: object) -> str | None:
    return next((name for name, kind in kinds.items() if kind is wanted), None)
