"""Interception of tensor operations, and its pause."""

import threading

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode


class Interceptor(TorchDispatchMode):
    """A mode that is told every tensor operation of its thread, outside of pauses."""


class InterceptionPause(threading.local):
    """Reentrant context manager; tensor operations inside of it are not intercepted.

    ``depth`` counts the open blocks of each thread. An interceptor that is the innermost mode of
    the thread is taken away for the time, which costs the operations nothing; one below another
    mode of the program has to look at ``depth``.
    """

    depth = 0
    _taken: Interceptor | None = None

    def __enter__(self) -> None:
        self.depth += 1
        if self.depth == 1 and _is_innermost():
            self._taken = _pop_mode()

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if self.depth == 0 and self._taken is not None:
            taken, self._taken = self._taken, None
            _push_mode(taken)


def _is_innermost() -> bool:
    number = torch._C._len_torch_dispatch_stack()  # noqa: SLF001 - torch has no public way
    return number > 0 and isinstance(torch._C._get_dispatch_stack_at(number - 1), Interceptor)  # noqa: SLF001
