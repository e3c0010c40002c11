"""Whether two pieces of compiled code are the same program."""

from types import CodeType


def is_same_code(one: CodeType, other: CodeType) -> bool:
    """Tell whether two code objects do the same; lines and columns are not compared."""
    return _comparable_parts(one) == _comparable_parts(other)


def _comparable_parts(code: CodeType) -> tuple[object, ...]:
    constants = tuple(
        _comparable_parts(constant)
        if isinstance(constant, CodeType)
        else (type(constant), repr(constant))
        for constant in code.co_consts
    )
    return (
        code.co_name,
        code.co_code,
        constants,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_flags,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_exceptiontable,
    )
