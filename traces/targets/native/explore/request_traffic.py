"""Requests of random traffic: they compute tokens, alone or behind a prefix that others cached."""

from typing import TypeAlias, assert_never

import torch

from assembler import PoolName
from assembler.cache.keys import RadixKey
from assembler.cache.prefixes import InsertParams, MatchPrefixParams
from assembler.names import ComponentType
from traces.explore import steps
from traces.explore.subject import RefusalViolationError
from traces.targets.common.content import row_content
from traces.targets.common.rows import launch_write
from traces.targets.native.explore.faults import FaultInjector
from traces.targets.native.explore.small_stack import SmallStack
from traces.targets.native.explore.traffic_model import (
    ModelNode,
    SharedPlane,
    SharedRows,
    TrafficModel,
)
from traces.targets.native.rows import ComponentRows

RequestStep: TypeAlias = steps.Insert | steps.Extend | steps.AbortRequest


class RequestTraffic:
    """Takes the steps of requests on a stack; ``seed`` is that of the bytes they write."""

    def __init__(
        self, stack: SmallStack, *, model: TrafficModel, faults: FaultInjector, seed: int
    ) -> None:
        self._stack = stack
        self._cache = stack.cache
        self._model = model
        self._faults = faults
        self._seed = seed

    def apply(self, step: RequestStep) -> None:
        """Take a step."""
        match step:
            case steps.Insert():
                self._insert(step)
            case steps.Extend():
                self._extend(step)
            case steps.AbortRequest():
                self._abort(step)
            case _:
                assert_never(step)

    def _insert(self, step: steps.Insert) -> None:
        """Cache tokens that no other node has."""
        tokens = (step.node,) * (step.pages * self._stack.tokens)
        before = self._model.written.get(step.node)
        shared = 0 if before is None else min(len(tokens), len(before.tokens))
        self._serve(step.node, tokens, base=before, shared=shared)

    def _extend(self, step: steps.Extend) -> None:
        base = self._model.written.get(step.base)
        if base is None or step.node in self._model.written:
            return
        prefix = base.tokens[: step.shared * self._stack.tokens]
        own = (step.node,) * (step.pages * self._stack.tokens)
        self._serve(step.node, prefix + own, base=base, shared=len(prefix))

    def _serve(
        self, number: int, tokens: tuple[int, ...], *, base: ModelNode | None, shared: int
    ) -> None:
        """Compute what the device does not serve of some tokens, and cache them.

        The first ``shared`` tokens have the rows of ``base``.
        """
        if number in self._model.nodes:
            return
        found = self._cache.match_prefix(MatchPrefixParams(RadixKey(tokens)))
        cached, prefix = found.device_prefix_len, found.last_device_node
        lock = self._cache.inc_lock_ref(prefix)
        slots = self._take_slots((len(tokens) - cached) // self._stack.tokens)
        if slots is not None:
            rows = SharedRows(base=base, shared=shared, cached=cached)
            content = self._write(f"node {number}", slots, rows)
            value = [self._cache.path_device_indices(prefix), slots[ComponentType.FULL]]
            inserted = self._cache.insert(
                InsertParams(
                    key=RadixKey(tokens),
                    value=torch.cat(value),
                    mamba_value=slots.get(ComponentType.MAMBA),
                    prev_prefix_len=cached,
                    swa_evicted_seqlen=cached,
                )
            )
            if inserted.mamba_exist:
                self._stack.device_slots[ComponentType.MAMBA].free(slots[ComponentType.MAMBA])
            known = ModelNode(node=inserted.last_device_node, content=content, tokens=tokens)
            self._model.nodes[number] = self._model.written[number] = known
        self._cache.dec_lock_ref(prefix, lock.to_dec_params())

    def _abort(self, step: steps.AbortRequest) -> None:
        slots = self._take_slots(step.pages)
        if slots is not None:
            self._write("abandoned", slots, SharedRows(base=None, shared=0, cached=0))
            self._free_slots(slots)

    def _take_slots(self, pages: int) -> dict[ComponentType, torch.Tensor] | None:
        """Take the device slots of a node, or none at all."""
        allocator, requests = self._stack.side.allocator, self._stack.side.req_to_token_pool
        need = pages * self._stack.tokens
        room = allocator.available_size()
        slots: dict[ComponentType, torch.Tensor] = {}
        with self._faults.allow("indices"), self._faults.injected_only():
            full = allocator.alloc(need)
            if (full is None) != (need > room):
                raise RefusalViolationError(f"alloc({need}) with {room} free: {full is not None}")
            if full is None:
                return None
            slots[ComponentType.FULL] = full
            if allocator.window is not None:
                slots[ComponentType.SWA] = allocator.window.full_to_swa(full)
            if requests is None:
                return slots
            state = requests.mamba_allocator.alloc(1)
            if state is not None:
                return {**slots, ComponentType.MAMBA: state}
        if slots:
            self._free_slots(slots)
        return None

    def _free_slots(self, slots: dict[ComponentType, torch.Tensor]) -> None:
        self._stack.side.allocator.free(slots[ComponentType.FULL])
        requests = self._stack.side.req_to_token_pool
        if requests is not None and ComponentType.MAMBA in slots:
            requests.mamba_allocator.free(slots[ComponentType.MAMBA])

    def _write(
        self, author: str, slots: dict[ComponentType, torch.Tensor], rows: SharedRows
    ) -> dict[PoolName, list[torch.Tensor]]:
        """Write rows on the default stream; return those of all tokens, shared ones included."""
        return {
            name: [
                self._write_rows(author, buffer, slots[buffer.component], rows.of(name, number))
                for number, buffer in enumerate(buffers)
            ]
            for name, buffers in self._stack.rows.items()
        }

    def _write_rows(
        self, author: str, buffer: ComponentRows, slots: torch.Tensor, shared: SharedPlane
    ) -> torch.Tensor:
        before, cached = shared.rows_of(buffer)
        own = slots[before.shape[0] * buffer.slots_per_row - cached :]
        fresh = row_content(buffer, own, author=f"{self._seed}/{author}")
        content = torch.cat([before, fresh])
        launch_write(self._stack.device, buffer, slots, content[cached // buffer.slots_per_row :])
        return content
