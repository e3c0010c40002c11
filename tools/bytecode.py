"""Comparison of compiled code without its lines."""

import inspect
from types import CodeType


def is_same_code(one: CodeType, other: CodeType) -> bool:
    """Return whether two code objects do the same; lines and columns are not compared."""
    return _stripped(one, functions=True) == _stripped(other, functions=True)


def is_same_outside_functions(one: CodeType, other: CodeType) -> bool:
    """Return whether two modules differ at most inside their functions."""
    return _stripped(one, functions=False) == _stripped(other, functions=False)


def _stripped(code: CodeType, *, functions: bool) -> CodeType:
    # Equality of code objects compares constants with their types, but line tables as well.
    constants = tuple(
        None
        if isinstance(one, CodeType) and not functions and one.co_flags & inspect.CO_OPTIMIZED
        else _stripped(one, functions=functions)
        if isinstance(one, CodeType)
        else one
        for one in code.co_consts
    )
    return code.replace(co_consts=constants, co_firstlineno=1, co_linetable=b"")
