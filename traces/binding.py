"""Tell apart what a caller gave and what a default filled in, fast enough to do on every call."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_PLAIN = (type(None), bool, int, float, str)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundArgument:
    """One argument as the callee sees it."""

    name: str
    value: object
    given: bool


class Binder:
    """Binds calls of one function; ``inspect.signature`` is asked once, not on every call.

    Args:
        function: must not be instrumented yet.
        skip_first: leave out the first parameter (``self``, ``cls``).
    """

    def __init__(self, function: FunctionType, *, skip_first: bool) -> None:
        parameters = list(inspect.signature(function).parameters.values())
        kinds = {parameter.name: parameter.kind for parameter in parameters}
        self._skip = 1 if skip_first else 0
        self._positional = [name for name, kind in kinds.items() if kind in _POSITIONAL]
        self._named = frozenset(name for name, kind in kinds.items() if kind in _NAMED)
        self._rest = _only(kinds, inspect.Parameter.VAR_POSITIONAL)
        self._extra = _only(kinds, inspect.Parameter.VAR_KEYWORD)
        self._order = list(kinds)[self._skip :]
        self._declared = [name for name in kinds if name not in (self._rest, self._extra)]
        self._defaults = {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.default is not inspect.Parameter.empty
        }
        self._required = kinds.keys() - self._defaults.keys() - {self._rest, self._extra}

    def values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """Return the named parameters with defaults filled in, in signature order.

        None when the call cannot bind.
        """
        given = self._given(args, kwargs)
        if given is None:
            return None
        return {
            name: given[name] if name in given else self._defaults[name] for name in self._declared
        }

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[BoundArgument, ...]:
        """Return the arguments in signature order.

        ``*args`` become ``args[0]``, ``**kwargs`` become ``kwargs.key`` in order of the keys. A
        call that cannot bind gives its raw positions and keywords; the callee will raise.
        """
        given = self._given(args, kwargs)
        if given is None:
            return tuple(self._raw(args, kwargs))
        return tuple(self._bound(args, kwargs, given))

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
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
        for name in self._order:
            if name == self._rest:
                for number, value in enumerate(args[len(self._positional) :]):
                    yield BoundArgument(name=f"{name}[{number}]", value=value, given=True)
            elif name == self._extra:
                for key in sorted(kwargs.keys() - self._named):
                    yield BoundArgument(name=f"{name}.{key}", value=kwargs[key], given=True)
            else:
                is_given = name in given
                value = given[name] if is_given else self._defaults[name]
                yield BoundArgument(name=name, value=value, given=is_given)

    def _raw(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[BoundArgument]:
        for number, value in enumerate(args[self._skip :]):
            yield BoundArgument(name=f"args[{number}]", value=value, given=True)
        for name, value in kwargs.items():
            yield BoundArgument(name=name, value=value, given=True)


def plain_defaults(function: FunctionType) -> dict[str, Any]:
    """Return the defaults of a function that are plain values: what leaving them out means.

    Args:
        function: not instrumented.
    """
    return {
        parameter.name: list(parameter.default) if parameter.default == () else parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if isinstance(parameter.default, _PLAIN) or parameter.default == ()
    }


def _only(kinds: Mapping[str, Any], wanted: object) -> str | None:
    return next((name for name, kind in kinds.items() if kind is wanted), None)
