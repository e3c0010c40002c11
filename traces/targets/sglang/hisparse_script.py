"""Script of HiSparse: requests whose rows are all on the host, and some of them on the device.

A prompt's rows are copied to the host, and the request keeps a buffer of device slots; each token
that it computes is copied when the next one is. Attention asks for some tokens of each layer, and
what is not in the buffer is loaded. One request fits into its buffer, one does not, one gets its
rows from another server, one is given up while its copy is on its way. Every row that attention is
handed is compared with what was written, and behind every part the owners of all slots are
recorded.

Source of the order of calls: sglang 0.5.23 ``managers/scheduler_components/batch_result_processor``
(staging), ``managers/schedule_batch.py`` (decode), ``disaggregation/decode.py`` (direct).
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

import torch

from traces.schema.model import StepRecord
from traces.targets.common.content import RowBuffer
from traces.targets.common.planes import Plane
from traces.targets.common.round_trip import RoundTripComparison
from traces.targets.common.rows import launch_read
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.fences import FORWARD
from traces.targets.sglang.hisparse_scenarios import TOP_K
from traces.targets.sglang.pageable import pageable
from traces.targets.sglang.peers import peer_behind
from traces.targets.sglang.pool_answers import told_values
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.server_requests import (
    DecodeBatch,
    PrefillBatch,
    allocate,
    allocate_next,
    commit,
    finish,
    make_request,
    plan_prefill,
    release_slots,
    row_of,
)
from traces.targets.sglang.signature_caller import accepted_arguments
from traces.targets.sglang.swap_kernels import SwapKernels

_KV = "KV"
_SHORT, _LONG, _FAR, _GIVEN_UP = "short", "long", "far", "given_up"
_LENGTHS = {_SHORT: 40, _LONG: 130, _FAR: 50, _GIVEN_UP: 70}
_COMPUTED = 3
_TOKEN = 7


_Load: TypeAlias = Callable[["_Running", torch.Tensor, int], torch.Tensor]


@dataclass(slots=True, kw_only=True)
class _Running:
    """A request, and who wrote which of its tokens, with the number of tokens."""

    request: Any
    authors: list[tuple[str, int]]

    @property
    def row(self) -> int:
        """Its row in the request table."""
        return row_of(self.request)

    @property
    def length(self) -> int:
        """The number of its tokens that have rows."""
        return sum(number for _, number in self.authors)


class HisparseScript:
    """Steps of one scenario; ``steps`` has their names in order."""

    def __init__(self, stack: AssembledStack, *, device: ScriptDevice) -> None:
        self._stack = stack
        self._coordinator: Any = stack.controller
        self._device = device
        self._rows = RowContents(stack, device=device, transfers=ControllerDriver(stack))
        # Index keys stay on the device, one for each slot of a request.
        self._rows.planes = tuple(one for one in self._rows.planes if _has_own_rows(one))
        # A host pool of keys and values counts the model's layers, one of latent rows the stage's.
        is_global = getattr(self._coordinator, "is_m3_hisparse", False)
        self._first_layer = int(stack.device_pools[_KV].start_layer) if is_global else 0
        self._forward = device.new_stream(FORWARD)
        self._call("set_decode_producer_stream", device.release_stream(self._forward))
        self._running: dict[str, _Running] = {}
        self._step = ""
        self._kernels = SwapKernels(device)
        self._steps: dict[str, Callable[[], Iterator[StepRecord]]] = {
            "staging": self._stage,
            "decode": self._decode,
            "direct": self._admit_directly,
            "loop": self._load_all,
            "end": self._end_all,
        }
        self.steps = tuple(self._steps)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The rows of the device pool."""
        return self._rows.planes

    def take_notes(self) -> list[str]:
        """Return nothing: no part is left out by chance."""
        return []

    def take_definitions(self) -> dict[str, FunctionType]:
        """Return nothing: no record names a method."""
        return {}

    def run_step(self, step: str) -> Iterator[StepRecord]:
        """Run one of :attr:`steps`."""
        self._step = step
        with pageable("tensor"):
            yield from self._steps[step]()
        self._device.synchronize()

    def _stage(self) -> Iterator[StepRecord]:
        """Copy prompts to the host; one is given up meanwhile, and a peer is behind once."""
        self._rows.poison("before")
        for name in (_SHORT, _LONG, _GIVEN_UP):
            self._prefill(name)
            self._coordinator.admit_request_into_staging(self._running[name].request)
        yield from self._balance("copying")
        given_up = self._running.pop(_GIVEN_UP).request
        self._coordinator.abort_staging_request(given_up)
        self._release(given_up)
        yield from self._balance("given up")
        self._device.synchronize()
        with peer_behind():
            yield self._ready("ready before a peer")
        yield self._ready("ready")
        yield from self._balance("staged")

    def _decode(self) -> Iterator[StepRecord]:
        """Compute tokens: the row of each is copied to the host when the next one is computed."""
        for number in range(_COMPUTED):
            for name in self._running:
                self._compute(name, number)
        yield from self._balance("computed")
        # The second time other tokens are in the buffer.
        for first in (0, 1):
            yield from self._attend(self._swap_in, first=first)

    def _admit_directly(self) -> Iterator[StepRecord]:
        """Admit a request whose rows another server has written to the host.

        Nothing before 0.5.13, whose host pools hand out no pages of a request.
        """
        coordinator = self._coordinator
        host = coordinator.mem_pool_host
        if not hasattr(host, "alloc_paged_token_slots"):
            return
        # Rows come over the network: a server's allocation leaves them no slots on the device.
        running, slots = self._allocated(_FAR)
        self._stack.allocator.free_hisparse(slots)
        where = host.alloc_paged_token_slots(
            coordinator.req_to_host_pool,
            coordinator.req_to_host_pool_allocated_len,
            running.row,
            0,
            running.length,
        )
        self._fill_host(where, _FAR)
        coordinator.admit_request_direct(running.request)
        running.request.output_ids.append(_TOKEN)
        self._running[_FAR] = running
        yield from self._balance("admitted directly")
        self._compute(_FAR, 0)
        yield from self._attend(self._swap_in, first=2)

    def _load_all(self) -> Iterator[StepRecord]:
        """Load every token by the plain loop that a release checks its kernels with."""
        yield from self._attend(self._load, first=0)

    def _end_all(self) -> Iterator[StepRecord]:
        """End one request, and take the others back."""
        for name, running in list(self._running.items()):
            del self._running[name]
            if name == _SHORT:
                finish(running.request, is_aborted=False)
                self._coordinator.request_finished(running.request)
            else:
                self._coordinator.retract_req(running.request)
            self._release(running.request)
            yield from self._balance(f"ended {name}")

    def _prefill(self, name: str) -> None:
        """Give a request slots for its prompt, and write its rows."""
        running, slots = self._allocated(name)
        self._write(self._device_slots(slots), name)
        running.request.output_ids.append(_TOKEN)
        self._running[name] = running

    def _allocated(self, name: str) -> tuple[_Running, torch.Tensor]:
        """Return a request with slots for its prompt, whose rows are not written yet."""
        length = _LENGTHS[name]
        request = make_request(name, list(range(length)))
        request.init_next_round_input(self._stack.cache)
        plan_prefill(request)
        batch = PrefillBatch(self._stack, request, tree=self._stack.cache)
        batch.hisparse_coordinator = self._coordinator
        slots = allocate(batch)
        commit(request)
        return _Running(request=request, authors=[(name, length)]), slots

    def _compute(self, name: str, number: int) -> None:
        """Have a request compute a token."""
        running, coordinator = self._running[name], self._coordinator
        batch = DecodeBatch(self._stack, running.request, tree=self._stack.cache)
        batch.hisparse_coordinator = coordinator
        slots = allocate_next(batch)
        commit(running.request)
        given = {
            "seq_lens": batch.seq_lens + 1,
            "out_cache_loc": slots,
            "req_pool_indices": batch.req_pool_indices,
            "seq_lens_cpu": batch.seq_lens_cpu + 1,
            "req_pool_indices_cpu": batch.req_pool_indices_cpu,
        }
        place = coordinator.map_last_loc_to_buffer
        place(**accepted_arguments(place, given))
        author = f"{name} {number}"
        where = self._device_slots(slots)
        with self._device.on(self._forward):
            self._call("wait_for_pending_backup")
            self._write(where, author)
        running.authors.append((author, 1))
        running.request.output_ids.append(_TOKEN + number)

    def _call(self, method: str, *arguments: Any) -> None:  # noqa: ANN401
        """Call a method of the coordinator that a release may lack."""
        getattr(self._coordinator, method, lambda *_: None)(*arguments)

    def _attend(self, load: _Load, *, first: int) -> Iterator[StepRecord]:
        """Have every layer of every request ask for tokens; compare the rows that it is handed."""
        layers = sorted({buffer.layer for plane in self._rows.planes for buffer in plane.layers})
        for name, running in self._running.items():
            tokens = _asked(running.length, first)
            served = []
            self._device.synchronize()
            with self._device.on(self._forward), self._kernels.bound(self._module):
                for layer in layers:
                    slots = load(running, tokens, layer)
                    served += [
                        (plane, plane.layers[layer], slots, self._read(plane.layers[layer], slots))
                        for plane in self._rows.planes
                    ]
            self._device.synchronize()
            comparison = RoundTripComparison()
            for plane, buffer, slots, rows in served:
                written = self._written(running, plane, buffer)[tokens]
                comparison.compare_rows(buffer, slots, served=rows.cpu(), written=written)
            yield comparison.record(step=self._step, pool=_KV, plane=f"{name}.{first}")

    def _read(self, buffer: RowBuffer, slots: torch.Tensor) -> torch.Tensor:
        return launch_read(self._device, buffer, slots)

    def _written(self, running: _Running, plane: Plane, buffer: RowBuffer) -> torch.Tensor:
        """Return the rows of all tokens of a request, ``(n, bytes of a row) uint8``."""
        rows = [
            self._rows.content(plane, buffer, torch.arange(number), author)
            for author, number in running.authors
        ]
        return torch.cat(rows)

    def _swap_in(self, running: _Running, tokens: torch.Tensor, layer: int) -> torch.Tensor:
        """Return the device slots of some tokens in a layer, as attention gets them."""
        coordinator = self._coordinator
        swap = getattr(coordinator, "swap_in_selected_blocks", None)
        if swap is None or not getattr(coordinator, "is_m3_hisparse", False):
            swap = coordinator.swap_in_selected_pages
        coordinator.num_real_reqs.fill_(1)
        length = self._lengths(running)
        asked = torch.full((1, TOP_K), -1, dtype=torch.int32)
        asked[0, : len(tokens)] = tokens
        given = {
            "req_pool_indices": self._row(running),
            "seq_lens": length,
            "compressed_seq_lens": length,
            "top_k_result": self._device.to_device(asked),
            "top_k_blocks": self._device.to_device(asked),
            # A block of one token.
            "sparse_block_size": 1,
            "layer_id": self._first_layer + layer,
        }
        return self._on_host(swap(**accepted_arguments(swap, given)), tokens)

    def _load(self, running: _Running, tokens: torch.Tensor, layer: int) -> torch.Tensor:
        """Return the device slots of some tokens in a layer, int64 on the host."""
        found = self._coordinator.naive_load_topk(
            self._row(running),
            self._lengths(running),
            self._device.to_device(tokens.to(torch.int32)[None]),
            self._first_layer + layer,
        )
        return self._on_host(found, tokens)

    def _row(self, running: _Running) -> torch.Tensor:
        return self._device.to_device(torch.tensor([running.row]))

    def _lengths(self, running: _Running) -> torch.Tensor:
        return self._device.to_device(torch.tensor([running.length]))

    def _on_host(self, found: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        with self._device.pause_interception():
            return found[0, : len(tokens)].long().cpu()

    @property
    def _module(self) -> ModuleType:
        return sys.modules[type(self._coordinator).__module__]

    def _ready(self, method: str) -> StepRecord:
        """Return which requests the release counts as copied."""
        ready = [request.rid for request in self._coordinator.collect_ready_reqs()]
        return told_values(step=self._step, holder="hisparse", method=method, values=ready)

    def _fill_host(self, where: torch.Tensor, author: str) -> None:
        """Write rows to the host, by way of device slots that no request has."""
        stack = self._stack
        pages = -(-len(where) // stack.page_size)
        taken = stack.full_allocator.alloc(pages * stack.page_size)
        slots = taken[: len(where)]
        self._write(slots, author)
        self._device.synchronize()
        self._coordinator.mem_pool_host.backup_from_device_all_layer(
            self._coordinator.mem_pool_device, where, slots, io_backend="kernel"
        )
        self._device.synchronize()
        stack.full_allocator.free(taken)

    def _device_slots(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the slots of the device pool behind those of requests."""
        found: torch.Tensor = self._stack.allocator.get_last_loc_hisparse_device(slots)
        return found

    def _write(self, slots: torch.Tensor, author: str) -> None:
        self._rows.write(self._rows.on_host({_KV: slots.long()}), author)

    def _release(self, request: Any) -> None:  # noqa: ANN401 - the release's own class
        """Give back the slots of a request that is over."""
        release_slots(request, self._stack.cache, is_kept=False)

    def _balance(self, moment: str) -> Iterator[StepRecord]:
        """Yield how many slots are free, of requests, of the device pool and of the host pool."""
        allocator = self._stack.allocator
        for side, pool, own in (
            ("device", "requests", allocator.logical_attn_allocator),
            ("device", _KV, allocator.hisparse_attn_allocator),
            ("host", _KV, self._coordinator.mem_pool_host),
        ):
            yield told_values(
                step=self._step,
                holder=f"{side} {pool}",
                method=f"available_size: {moment}",
                values=[int(own.available_size())],
            )


def _has_own_rows(plane: Plane) -> bool:
    return all(buffer.slots_per_row == 1 for buffer in plane.layers)


def _asked(length: int, first: int) -> torch.Tensor:
    """Return the tokens that attention asks for: the latest ones, and others from ``first`` on."""
    number = min(length, TOP_K)
    latest = min(number, _COMPUTED + 1)
    others = torch.arange(number - latest) * (length - latest) // max(1, number - latest)
    others = (others + first) % max(1, length - latest)
    return torch.cat([others, torch.arange(length - latest, length)])
