"""Records of a pretended stack: calls, buffers and events with their labels, parents and lines."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.traces.record_facts import objects_of, part_of, path_of
from traces.recording.failures import failure_of
from traces.schema.labels import name_of_label
from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    Location,
    Outcome,
    Recording,
    ScenarioRecord,
    Sites,
    TensorRecord,
    Trace,
)

ATTACH, STACKS, CONTROLLER = (
    "assembler/stacks/attach.py",
    "assembler/stacks.py",
    "assembler/hybrid.py",
)
DEFINED = {
    "attach_hybrid_nsa_pool_to_hiradix_cache": (ATTACH, 100),
    "build_shared_anchor_stack": (STACKS, 40),
    "build_kv_host_pool": (STACKS, 10),
    "build_pool_entry": (STACKS, 25),
    "MLATokenToKVPoolHost": ("assembler/mla.py", 12),
    "NSAIndexerPoolHost": ("assembler/indexer.py", 9),
    "PoolEntry": ("assembler/group.py", 20),
    "HostPoolGroup": ("assembler/group.py", 60),
    "HybridCacheController": (CONTROLLER, 30),
    "HybridCacheController.write": (CONTROLLER, 90),
    "HybridCacheController.load": (CONTROLLER, 140),
}


class Play:
    """Collects records; labels, parents and sites come by themselves."""

    def __init__(self, *edits: str, config: dict | None = None) -> None:
        self.edits = set(edits)
        self.config = config or {"page_size": 64}
        self.calls: list[Call] = []
        self.tensors: list[TensorRecord] = []
        self.events: list[tuple[object, Location]] = []
        self.digests: list[object] = []
        self.lines: dict[str, Location] = {}
        self.step = ""
        self._parents = [""]
        self._ordinals: Counter[str] = Counter()

    def has(self, edit: str) -> bool:
        return edit in self.edits

    @contextmanager
    def call(
        self,
        role: str,
        callee: str,
        line: tuple[str, int],
        given: dict,
        defaults: dict | None = None,
        returns: object = None,
    ) -> Iterator[dict | None]:
        """Play one call; ``given`` may leave out names of ``defaults``."""
        self._ordinals[callee] += 1
        label = f"{callee}#{self._ordinals[callee]}"
        bound = {**(defaults or {}), **given}
        arguments = tuple(
            Argument(name=name, value=value, given=name in given) for name, value in bound.items()
        )
        self.lines[label] = Location(file=line[0], line=line[1])
        made = {"ref": label} if role == "constructor" else returns
        index = len(self.calls)
        record = {
            "call": label,
            "parent": self._parents[-1],
            "caller": name_of_label(self._parents[-1]),
            "step": self.step,
            "role": role,
            "part": part_of(callee, role),
            "callee": callee,
            "arguments": arguments,
        }
        self.calls.append(Call(**record, returns=None, raises=None))
        self._parents.append(label)
        try:
            yield made
        except Exception as error:
            failure = failure_of(error)
            is_own = failure.unbound is not None and failure.unbound.function == callee
            unbound = failure.unbound if is_own else None
            self.calls[index] = Call(**record, returns=None, raises=failure, unbound=unbound)
            raise
        else:
            self.calls[index] = Call(**record, returns=made, raises=None)
        finally:
            self._parents.pop()

    def make(self, *args, **kwargs) -> dict:
        """Play a call that calls nothing."""
        with self.call(*args, **kwargs) as made:
            return made

    def event(self, line: tuple[str, int], event: object) -> None:
        self.events.append((event, Location(file=line[0], line=line[1])))

    def tensor(self, owner: str, made: dict, name: str, shape: list[int], dtype: str) -> None:
        stride = [1]
        for size in reversed(shape[1:]):
            stride.insert(0, stride[0] * size)
        count = shape[0] * stride[0]
        self.tensors.append(
            TensorRecord(
                owner=owner,
                is_named=True,
                side=owner.partition(".")[0],
                pool=owner.partition(".")[2],
                object=made["ref"],
                name=name,
                attribute=path_of(name).attribute,
                index=path_of(name).index,
                planes=(),
                layer=None,
                layer_num=0,
                row_bytes=0,
                slots_per_row=0,
                shape=tuple(shape),
                dtype=dtype,
                stride=tuple(stride),
                layout="layer_first" if owner.startswith("host") else "",
                bytes=count,
                pinned=owner.startswith("host"),
                aliases="",
            )
        )

    def recording(self, name: str, outcome: Outcome, *, sites: bool = True) -> Recording:
        trace = Trace(
            schema=SCHEMA,
            scenario=ScenarioRecord(name=name, config=self.config),
            calls=tuple(self.calls),
            tensors=tuple(self.tensors),
            events=tuple(event for event, _ in self.events),
            digests=tuple(self.digests),
            outcome=outcome,
            objects=objects_of(self.calls, self.tensors),
        )
        known = Sites(
            calls=self.lines,
            definitions={name: Location(file=at[0], line=at[1]) for name, at in DEFINED.items()},
            events=tuple(site for _, site in self.events),
        )
        return Recording(trace=trace, sites=known if sites else None)
