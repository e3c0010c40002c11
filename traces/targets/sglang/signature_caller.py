"""Calls of a release's functions with the arguments that their signatures take."""

import inspect
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from traces.targets.sglang.errors import UnsupportedByRelease


@dataclass(slots=True)
class SignatureCaller:
    """Calls functions by name of argument and records important arguments they do not take."""

    # ``callable.argument`` for every value that mattered and was not taken.
    dropped: list[str] = field(default_factory=list)

    def call(
        self,
        function: Callable[..., Any],
        given: Mapping[str, Any],
        *,
        needs: tuple[str, ...] = (),
        matters: tuple[str, ...] = (),
    ) -> Any:  # noqa: ANN401 - the result of the release
        """Call a function with those of the given values that its signature takes.

        ``needs`` are parameters without which the scenario would be another one; parameters that
        change bytes, ``matters``, are recorded in ``dropped`` when not taken.

        Raises:
            UnsupportedByRelease: a needed parameter is not taken, or a required one is unknown.
        """
        name = getattr(function, "__name__", str(function))
        taken = accepted_parameters(function)
        for parameter in needs:
            if parameter not in taken:
                raise UnsupportedByRelease(f"{name} takes no {parameter}")
        unknown = missing_parameters(function, given)
        if unknown:
            raise UnsupportedByRelease(f"{name} wants {', '.join(unknown)}")
        lost = (key for key in matters if key not in taken and given.get(key) is not None)
        self.dropped += [f"{name}.{key}" for key in lost]
        return function(**accepted_arguments(function, given))


def accepted_parameters(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters that a signature spells out."""
    if isinstance(function, type):
        return _parameters_of_class(function)
    return frozenset(inspect.signature(function).parameters)


@cache
def _parameters_of_class(cls: type) -> frozenset[str]:
    # Server arguments have hundreds, whose signature is read for every context of a rank.
    return frozenset(inspect.signature(cls).parameters)


def accepted_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the given values that a signature takes."""
    taken = accepted_parameters(function)
    return {name: value for name, value in given.items() if name in taken}


def missing_parameters(function: Callable[..., Any], given: Container[str]) -> list[str]:
    """Return the names of the parameters that have no default and are not given."""
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind
        in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        and parameter.name not in given
    ]
