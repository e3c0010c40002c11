"""Compilation by torch, put off until a compiled function is called.

The compiler of torch is a large package, which ``torch.compile`` imports as soon as it is given a
function. Releases give it many at import, and scenarios call hardly any of them.
"""

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch

from traces.targets.sglang.shims.module_binding import AttributePatches


def put_off_compilation(changes: AttributePatches) -> None:
    """Have ``torch.compile`` compile a function when it is first called, and all else at once."""
    compile_now = torch.compile

    def compile_later(model: Any = None, **settings: Any) -> Any:  # noqa: ANN401 - as torch's
        if model is None:
            return functools.partial(compile_later, **settings)
        if not isinstance(model, FunctionType):
            return compile_now(model, **settings)
        return _compiled_when_called(model, lambda: compile_now(model, **settings))

    changes.set(torch, "compile", compile_later)


def _compiled_when_called(
    function: FunctionType, compile_it: Callable[[], Callable[..., Any]]
) -> Callable[..., Any]:
    compiled = functools.cache(compile_it)

    @functools.wraps(function)
    def run(*values: Any, **named: Any) -> Any:  # noqa: ANN401 - as the function's
        return compiled()(*values, **named)

    return run
