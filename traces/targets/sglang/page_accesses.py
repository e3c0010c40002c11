"""The bytes behind the page methods of host pools: what getters, setters and addresses cover.

Storage backends and transports move host pages by these methods. Every byte of a pool's buffers is
given its own number, so the numbers that a getter returns say which bytes it read, and where
numbers lie after a setter says what it wrote. The bytes that backups wrote into the same slots are
the measure of both.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from traces.schema.pools import ByteRange, PageAccess, PageUse
from traces.targets.common.content import DIGEST_HEX_DIGITS
from traces.targets.common.pool_buffers import PoolBuffer, buffers_of
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.host_writes import HostWrites
from traces.targets.sglang.pageable import pageable_zeros
from traces.targets.sglang.pool_answers import failure_text

_PAGE = "page"
_DATA = "data_page"
_SPLIT_FACTOR = 2
_BYTE_BITS = 8
_BYTE_VALUES = 1 << _BYTE_BITS
_UNKNOWN = -1
# Numbers that are handled at once: the memory of intermediate results stays in use.
_PART = 1 << 14
_RUN_LENGTH_MIN = 32


_Numbers: TypeAlias = npt.NDArray[np.int32]
"""Numbers of bytes. They are arrays and not tensors, whose every operation is intercepted."""


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
        self._digits: dict[int, list[torch.Tensor]] = {}

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
        for view, digits in zip(self._views, self._digits_of(power), strict=True):
            view.copy_(digits)

    def _digits_of(self, power: int) -> list[torch.Tensor]:
        """Return a digit of each byte's number, by buffer; page methods ask for the same ones."""
        if power not in self._digits:
            self._digits[power] = [
                _digits(first, end, power) for first, end in pairwise(self._firsts)
            ]
        return self._digits[power]

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
        return _UNKNOWN

    def backed_up(self, pool: object, writes: HostWrites) -> torch.Tensor:
        """Return which bytes backups wrote, ``(size,) bool``."""
        marks = torch.zeros(self.size, dtype=torch.bool)
        for view, (first, end) in zip(self._views, pairwise(self._firsts), strict=True):
            writes.mark(pool, start=view.data_ptr(), marks=marks[first:end])
        return marks

    def ranges(self, numbers: _Numbers) -> tuple[ByteRange, ...]:
        """Return numbered bytes as pieces of buffers, in their order."""
        return tuple(self._range(first, size) for first, size in _runs(numbers))

    def _range(self, number: int, size: int) -> ByteRange:
        if number == _UNKNOWN:
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
        pages: list[_Numbers] = []
        together: list[_Numbers] = []
        reason = ""
        method = getattr(self._held.pool, name)
        try:
            pages = self._numbers(method, use)
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
            page_bytes=len(pages[0]) if pages else 0,
            first=self._memory.ranges(pages[0]) if pages and len(pages[0]) else (),
            order=_digest([*pages, *together]) if pages else "",
            missing_bytes=counts.missing,
            foreign_bytes=counts.foreign,
            shared_bytes=counts.shared,
            reason=reason,
        )

    def _numbers(self, method: Callable[..., Any], use: PageUse) -> list[_Numbers]:
        """Return the numbers of the bytes of every page, in the method's order."""
        if use == "write":
            return self._written(method)
        if use == "describe":
            return [self._described(self._call(method, page)) for page in range(self._page_num)]
        return self._read(method)

    def _unlike_single(
        self, method: Callable[..., Any], use: PageUse, pages: Sequence[_Numbers]
    ) -> list[_Numbers]:
        """Return what a method describes for all pages at once, unless that is page after page."""
        if use != "describe":
            return []
        found = self._described(self._call(method, 0, page_num=self._page_num))
        return [] if np.array_equal(found, np.concatenate(pages)) else [found]

    def _read(self, method: Callable[..., Any]) -> list[_Numbers]:
        """Read numbered memory and return the numbers that each page has."""
        found: list[_Numbers] = []
        for power in range(_powers(self._memory.size)):
            self._memory.write_digits(power)
            for page in range(self._page_num):
                content = _page_bytes(self._call(method, page))
                if power == 0:
                    found.append(np.zeros(len(content), dtype=np.int32))
                _digit_column(found[page], power)[:] = content
        return found

    def _written(self, method: Callable[..., Any]) -> list[_Numbers]:
        """Write numbered pages and return where each byte of them lies."""
        with pageable_zeros():
            template: torch.Tensor = self._held.pool.get_dummy_flat_data_page()
        size = template.nbytes
        total = self._page_num * size
        found = np.zeros(self._memory.size, dtype=np.int32)
        for power in range(_powers(total + 1)):
            self._memory.clear()
            # 0 is a byte that no page was written to.
            for page, data in enumerate(_digits(1, total + 1, power).split(size)):
                self._call(method, page, data.view(template.dtype).reshape(template.shape))
            self._memory.read_into(_digit_column(found, power))
        written = np.full(total, _UNKNOWN, dtype=np.int32)
        for first in range(0, len(found), _PART):
            part = found[first : first + _PART]
            places = np.flatnonzero(part)
            written[part[places] - 1] = places + first
        return list(written.reshape(self._page_num, size))

    def _described(self, answer: Any) -> _Numbers:  # noqa: ANN401 - pointers and lengths
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise PageMethodError(f"answers {type(answer).__name__}, no pointers and lengths")
        pieces = [
            _piece(self._memory.number(int(pointer)), int(size))
            for pointer, size in zip(*answer, strict=True)
        ]
        if not pieces:
            raise PageMethodError("answers no pointer")
        return np.concatenate(pieces)

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

    def _counts(self, pages: Sequence[_Numbers], together: Sequence[_Numbers]) -> _Counts:
        """Compare the pages that were backed up with their backups, and all with each one."""
        if not pages:
            return _Counts(missing=0, foreign=0, shared=0)
        known = [_below(self._memory.size, page) for page in pages]
        mine = _marks([known[page] for page in self._own_pages], self._memory.size)
        unknown = sum(len(pages[page]) - len(known[page]) for page in self._own_pages)
        single, whole = mine, mine
        if together:
            single = _marks(known, self._memory.size)
            whole = _marks([_below(self._memory.size, one) for one in together], self._memory.size)
        return _Counts(
            missing=_surplus(self._backed_up, mine) + _surplus(single, whole),
            foreign=_surplus(mine, self._backed_up) + unknown + _surplus(whole, single),
            shared=_shared_num(known, self._memory.size),
        )


def _marks(pages: Sequence[_Numbers], size: int) -> npt.NDArray[np.bool_]:
    """Return which of the first ``size`` numbers occur."""
    marks = np.zeros(size, dtype=np.bool_)
    for page in pages:
        runs = _runs(page)
        # Most pages are a few runs of bytes, which are marked in a small part of the time.
        if _RUN_LENGTH_MIN * len(runs) > len(page):
            marks[page] = True
            continue
        for first, length in runs:
            marks[first : first + length] = True
    return marks


def _surplus(marks: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_]) -> int:
    """Return how many bytes only the first marks have."""
    return int(np.count_nonzero(marks & ~others))


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


def _piece(first: int, size: int) -> _Numbers:
    if first == _UNKNOWN:
        return np.full(size, _UNKNOWN, dtype=np.int32)
    return np.arange(first, first + size, dtype=np.int32)


def _powers(count: int) -> int:
    """Return how many bytes a number below ``count`` takes."""
    powers = 1
    while _BYTE_VALUES**powers < count:
        powers += 1
    return powers


def _digits(first: int, end: int, power: int) -> torch.Tensor:
    """Return a digit of each of some consecutive numbers: that of 256 to the power."""
    block = _BYTE_VALUES**power
    start = first // block
    # Every digit is followed by the same sequence, so the sequence begins at the first one needed.
    digits = np.roll(np.arange(_BYTE_VALUES, dtype=np.uint8), -(start % _BYTE_VALUES))
    blocks = np.repeat(digits[: -(-end // block) - start], block)
    return torch.from_numpy(np.resize(blocks, end - start * block)[first - start * block :].copy())


def _digit_column(numbers: _Numbers, power: int) -> npt.NDArray[np.uint8]:
    """Return a view on a digit of each of some numbers."""
    place = power if sys.byteorder == "little" else numbers.itemsize - 1 - power
    return numbers.view(np.uint8).reshape(-1, numbers.itemsize)[:, place]


def _runs(numbers: _Numbers) -> list[tuple[int, int]]:
    """Return the first number and the length of each run of consecutive numbers."""
    if not len(numbers):
        return []
    starts = np.concatenate(([0], np.flatnonzero(np.diff(numbers) != 1) + 1))
    lengths = np.diff(starts, append=len(numbers))
    return list(zip(numbers[starts].tolist(), lengths.tolist(), strict=True))


def _shared_num(pages: Sequence[_Numbers], size: int) -> int:
    """Return how many of the first ``size`` numbers occur more than once."""
    marks = _marks(pages, size)
    if np.count_nonzero(marks) == sum(map(len, pages)):
        return 0
    counts = np.zeros(size, dtype=np.int32)
    for page in pages:
        for first in range(0, len(page), _PART):
            np.add.at(counts, page[first : first + _PART], 1)
    return int(np.count_nonzero(counts > 1))


def _below(size: int, page: _Numbers) -> _Numbers:
    """Return the numbers of a page that are those of a byte; others belong to other memory."""
    if not len(page) or (int(page.min()) >= 0 and int(page.max()) < size):
        return page
    return page[(page >= 0) & (page < size)]


def _digest(pages: Sequence[_Numbers]) -> str:
    state = hashlib.sha256()
    for page in pages:
        state.update(np.ascontiguousarray(page).data)
    return state.hexdigest()[:DIGEST_HEX_DIGITS]
