"""The bytes behind the page methods of host pools: what getters, setters and addresses cover.

Storage backends and transports move host pages by these methods. Every byte of a pool's buffers is
given its own number, so the numbers that a getter returns say which bytes it read, and where
numbers lie after a setter says what it wrote. The bytes that backups wrote into the same slots are
the measure of both.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from traces.schema.pools import ByteRange, PageAccess, PageUse
from traces.targets.common.pool_buffers import PoolBuffer, buffers_of
from traces.targets.sglang.byte_runs import (
    UNKNOWN,
    Numbers,
    Runs,
    as_runs,
    byte_num,
    digest_of,
    joined,
    marks_of,
    runs_below,
    runs_of_pages,
    shared_num,
    surplus,
)
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.host_writes import HostWrites
from traces.targets.sglang.pageable import pageable
from traces.targets.sglang.pool_answers import failure_text

_PAGE = "page"
_DATA = "data_page"
_SPLIT_FACTOR = 2
_BYTE_BITS = 8
_BYTE_VALUES = 1 << _BYTE_BITS
# Numbers whose digits are known before scenarios are run.
_KNOWN_NUMBERS = 1 << 22
_KNOWN_POWERS = 3


class PageMethodError(Exception):
    """A page method that cannot be called, or whose answer is not understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    missing: int
    foreign: int
    shared: int


class NumberedHostMemory:
    """The buffers of one host pool as one numbered range of bytes.

    ``is_device`` says of an address whether it is device memory: host pools keep references to it.
    """

    def __init__(self, pool: object, *, is_device: Callable[[int], bool]) -> None:
        self._buffers = [
            buffer
            for buffer in buffers_of(pool)
            if buffer.tensor.is_contiguous() and not is_device(buffer.tensor.data_ptr())
        ]
        self._views = [buffer.tensor.view(-1).view(torch.uint8) for buffer in self._buffers]
        self._firsts = list(accumulate((len(view) for view in self._views), initial=0))
        self.size = self._firsts[-1]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Give every buffer back its content when the block ends."""
        kept = [view.clone() for view in self._views]
        try:
            yield
        finally:
            for view, content in zip(self._views, kept, strict=True):
                view.copy_(content)

    def write_digits(self, power: int) -> None:
        """Give every byte a digit of its number: that of 256 to the power."""
        for view, (first, end) in zip(self._views, pairwise(self._firsts), strict=True):
            view.copy_(torch.from_numpy(_digits(first, end, power)))

    def clear(self) -> None:
        """Set every byte to 0."""
        for view in self._views:
            view.zero_()

    def read_into(self, content: npt.NDArray[np.uint8]) -> None:
        """Copy all bytes to ``content``, ``(size,)``."""
        for view, (first, end) in zip(self._views, pairwise(self._firsts), strict=True):
            content[first:end] = view.numpy()

    def number(self, address: int) -> int:
        """Return the number of the byte at an address; -1 for other memory."""
        for view, first in zip(self._views, self._firsts, strict=False):
            offset = address - view.data_ptr()
            if 0 <= offset < len(view):
                return first + offset
        return UNKNOWN

    def backed_up(self, pool: object, writes: HostWrites) -> torch.Tensor:
        """Return which bytes backups wrote, ``(size,) bool``."""
        marks = torch.zeros(self.size, dtype=torch.bool)
        for view, (first, end) in zip(self._views, pairwise(self._firsts), strict=True):
            writes.mark(pool, start=view.data_ptr(), marks=marks[first:end])
        return marks

    def ranges(self, runs: Runs) -> tuple[ByteRange, ...]:
        """Return numbered bytes as pieces of buffers, in their order."""
        return tuple(self._range(first, size) for first, size in runs.tolist())

    def _range(self, number: int, size: int) -> ByteRange:
        if number == UNKNOWN:
            return ByteRange(buffer="", first=0, bytes=size)
        place = max(place for place, first in enumerate(self._firsts[:-1]) if first <= number)
        buffer: PoolBuffer = self._buffers[place]
        return ByteRange(buffer=buffer.name, first=number - self._firsts[place], bytes=size)


class PageReader:
    """Calls the page methods of one host pool for all of its pages.

    ``slots`` are the host slots that were backed up, ``(slot_num,) int64`` on the host, and
    ``backed_up`` the bytes that their backups wrote; see :meth:`NumberedHostMemory.backed_up`.
    """

    def __init__(
        self,
        held: HeldPool,
        *,
        memory: NumberedHostMemory,
        page_size: int,
        slots: torch.Tensor,
        backed_up: torch.Tensor,
    ) -> None:
        self._held = held
        self._memory = memory
        self._page_size = page_size
        self._page_num = int(held.pool.size) // self._page_size
        self._own_pages = sorted(set((slots // self._page_size).tolist()))
        self._backed_up: npt.NDArray[np.bool_] = backed_up.numpy()

    def accesses(self, *, step: str) -> Iterator[PageAccess]:
        """Yield a record for every page method of the pool; its memory is as before afterwards."""
        with self._memory.restored():
            for name, method in self._held.methods():
                use = page_use(name, method)
                if use is not None:
                    yield self._access(name, use, step)

    def _access(self, name: str, use: PageUse, step: str) -> PageAccess:
        pages: list[Runs] = []
        together: list[Runs] = []
        reason = ""
        method = getattr(self._held.pool, name)
        try:
            pages = self._pages(method, use)
            together = self._unlike_single(method, use, pages)
        except Exception as error:  # noqa: BLE001 - recorded as the reason
            reason = failure_text(error)
        counts = self._counts(pages, together)
        return PageAccess(
            step=step,
            holder=self._held.path,
            method=name,
            use=use,
            pages=len(pages),
            page_bytes=byte_num(pages[0]) if pages else 0,
            first=self._memory.ranges(pages[0]) if pages else (),
            order=digest_of([*pages, *together]) if pages else "",
            missing_bytes=counts.missing,
            foreign_bytes=counts.foreign,
            shared_bytes=counts.shared,
            reason=reason,
        )

    def _pages(self, method: Callable[..., Any], use: PageUse) -> list[Runs]:
        """Return the bytes of every page, in the method's order."""
        if use == "describe":
            return [self._described(self._call(method, page)) for page in range(self._page_num)]
        return runs_of_pages(self._written(method) if use == "write" else self._read(method))

    def _unlike_single(
        self, method: Callable[..., Any], use: PageUse, pages: Sequence[Runs]
    ) -> list[Runs]:
        """Return what a method describes for all pages at once, unless that is page after page."""
        if use != "describe":
            return []
        found = self._described(self._call(method, 0, page_num=self._page_num))
        return [] if np.array_equal(found, joined(pages)) else [found]

    def _read(self, method: Callable[..., Any]) -> list[Numbers]:
        """Read numbered memory and return the numbers that each page has."""
        found: list[Numbers] = []
        for power in range(_powers(self._memory.size)):
            self._memory.write_digits(power)
            for page in range(self._page_num):
                content = _page_bytes(self._call(method, page))
                if power == 0:
                    found.append(np.zeros(len(content), dtype=np.int32))
                _digit_column(found[page], power)[:] = content
        return found

    def _written(self, method: Callable[..., Any]) -> list[Numbers]:
        """Write numbered pages and return where each byte of them lies."""
        with pageable("zeros"):
            template: torch.Tensor = self._held.pool.get_dummy_flat_data_page()
        size = template.nbytes
        total = self._page_num * size
        found = np.zeros(self._memory.size, dtype=np.int32)
        for power in range(_powers(total + 1)):
            self._memory.clear()
            # 0 is a byte that no page was written to.
            digits = torch.from_numpy(_digits(1, total + 1, power).copy())
            for page, data in enumerate(digits.split(size)):
                self._call(method, page, data.view(template.dtype).reshape(template.shape))
            self._memory.read_into(_digit_column(found, power))
        written = np.full(total, UNKNOWN, dtype=np.int32)
        places = np.flatnonzero(found != 0)
        written[found[places] - 1] = places
        return list(written.reshape(self._page_num, size))

    def _described(self, answer: Any) -> Runs:  # noqa: ANN401 - pointers and lengths
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise PageMethodError(f"answers {type(answer).__name__}, no pointers and lengths")
        pieces = [
            (self._memory.number(int(pointer)), int(size))
            for pointer, size in zip(*answer, strict=True)
        ]
        if not pieces:
            raise PageMethodError("answers no pointer")
        return as_runs(pieces)

    def _call(
        self,
        method: Callable[..., Any],
        page: int,
        data: torch.Tensor | None = None,
        *,
        page_num: int = 1,
    ) -> Any:  # noqa: ANN401 - the release's answer
        first = page * self._page_size
        known = {
            "index": first,
            "indices": torch.arange(first, first + page_num * self._page_size),
            "split_factor": _SPLIT_FACTOR,
            _DATA: data,
        }
        wanted = _required(method)
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise PageMethodError(f"takes {unknown[0]}, which is not known")
        return method(**{name: known[name] for name in wanted})

    def _counts(self, pages: Sequence[Runs], together: Sequence[Runs]) -> _Counts:
        """Compare the pages that were backed up with their backups, and all with each one."""
        if not pages:
            return _Counts(missing=0, foreign=0, shared=0)
        size = self._memory.size
        known = [runs_below(size, page) for page in pages]
        mine = marks_of([known[page] for page in self._own_pages], size)
        missing = surplus(self._backed_up, mine)
        foreign = surplus(mine, self._backed_up)
        for page in self._own_pages:
            foreign += byte_num(pages[page]) - byte_num(known[page])
        if together:
            single = marks_of(known, size)
            whole = marks_of([runs_below(size, one) for one in together], size)
            missing += surplus(single, whole)
            foreign += surplus(whole, single)
        return _Counts(missing=missing, foreign=foreign, shared=shared_num(known, size))


def page_use(name: str, method: FunctionType) -> PageUse | None:
    """Return what a method does with the page of a host slot; None for any other method."""
    parameters = list(inspect.signature(method).parameters)[1:]
    if _PAGE not in name or not {"index", "indices"} & set(parameters):
        return None
    if _DATA in parameters:
        return "write"
    return "read" if "index" in parameters else "describe"


@lru_cache(maxsize=256)
def _required(method: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(
        parameter.name
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is inspect.Parameter.empty
    )


def _page_bytes(answer: Any) -> npt.NDArray[np.uint8]:  # noqa: ANN401 - a page of the release
    if not isinstance(answer, torch.Tensor):
        raise PageMethodError(f"answers {type(answer).__name__}, no tensor")
    return answer.contiguous().view(-1).view(torch.uint8).numpy()


def _powers(count: int) -> int:
    """Return how many bytes a number below ``count`` takes."""
    powers = 1
    while _BYTE_VALUES**powers < count:
        powers += 1
    return powers


def remember_digits() -> None:
    """Make the digits of small numbers once for all forks of this process."""
    for power in range(_KNOWN_POWERS):
        _known_digits(power)


def _digits(first: int, end: int, power: int) -> npt.NDArray[np.uint8]:
    """Return a digit of each of some consecutive numbers: that of 256 to the power.

    The array may be one that others get as well.
    """
    if end <= _KNOWN_NUMBERS and power < _KNOWN_POWERS:
        return _known_digits(power)[first:end]
    return _digits_between(first, end, power)


@cache
def _known_digits(power: int) -> npt.NDArray[np.uint8]:
    return _digits_between(0, _KNOWN_NUMBERS, power)


def _digits_between(first: int, end: int, power: int) -> npt.NDArray[np.uint8]:
    block = _BYTE_VALUES**power
    start = first // block
    # Every digit is followed by the same sequence, so the sequence begins at the first one needed.
    digits = np.roll(np.arange(_BYTE_VALUES, dtype=np.uint8), -(start % _BYTE_VALUES))
    blocks = np.repeat(digits[: -(-end // block) - start], block)
    return np.resize(blocks, end - start * block)[first - start * block :]


def _digit_column(numbers: Numbers, power: int) -> npt.NDArray[np.uint8]:
    """Return a view on a digit of each of some numbers."""
    place = power if sys.byteorder == "little" else numbers.itemsize - 1 - power
    return numbers.view(np.uint8).reshape(-1, numbers.itemsize)[:, place]
