"""Steps of random traffic; each names its node, so that a list of steps can be read and edited.

A step that cannot be applied, such as the backup of a node that was dropped, does nothing: any part
of a list of steps is a list of steps.
"""

from typing import Literal, TypeAlias, get_args

import msgspec

ComponentName: TypeAlias = Literal["full", "swa", "mamba"]
FaultSite: TypeAlias = Literal[
    "host",
    "host sidecar",
    "device",
    "device sidecar",
    "indices",
    "copy",
    "storage",
    "storage thread",
]
FAULT_SITES: tuple[FaultSite, ...] = get_args(FaultSite)


class _TrafficStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do"):
    """Base of the steps."""


class Insert(_TrafficStep, frozen=True, tag="insert"):
    """Take slots for a new node, write fresh bytes there as attention would, and cache it."""

    node: int
    pages: int


class Extend(_TrafficStep, frozen=True, tag="extend"):
    """Cache a new node behind the first ``shared`` pages of another, as a request that shares them.

    The other node is split where it has more pages. What the device lacks of the shared pages is
    computed again.
    """

    node: int
    base: int
    shared: int
    pages: int


class AbortRequest(_TrafficStep, frozen=True, tag="abandon"):
    """Take slots and write to them, then give them back: a request that was aborted."""

    pages: int


class Backup(_TrafficStep, frozen=True, tag="backup"):
    """Back a node up."""

    node: int


class CheckWrites(_TrafficStep, frozen=True, tag="check writes"):
    """Check which backups have finished; with ``wait``, block for all of them."""

    wait: bool


class LoadBack(_TrafficStep, frozen=True, tag="load"):
    """Queue a node for loading, for a request that keeps it until its forward pass."""

    node: int


class Launch(_TrafficStep, frozen=True, tag="launch"):
    """Launch the queued loads."""


class Forward(_TrafficStep, frozen=True, tag="forward"):
    """Read all layers, in order, of the nodes of the oldest launch, and of ``node`` as well."""

    node: int


class CheckLoads(_TrafficStep, frozen=True, tag="check loads"):
    """Check which loads have finished."""


class Evict(_TrafficStep, frozen=True, tag="evict"):
    """Free device slots of a part of some nodes."""

    part: ComponentName
    pages: int


class EvictHost(_TrafficStep, frozen=True, tag="evict host"):
    """Drop host copies of some nodes."""

    part: ComponentName
    pages: int


class ReserveSlots(_TrafficStep, frozen=True, tag="hoard"):
    """Take free slots of one pool until :class:`ReleaseReserved`, all but ``spare`` pages."""

    side: Literal["device", "host"]
    part: ComponentName
    spare: int


class ReleaseReserved(_TrafficStep, frozen=True, tag="give back"):
    """Free all reserved slots."""


class InjectFault(_TrafficStep, frozen=True, tag="fail"):
    """Make a site fail ``times`` times, after it worked ``after`` more times."""

    site: FaultSite
    after: int
    times: int


class Fetch(_TrafficStep, frozen=True, tag="fetch"):
    """Start fetching what the host lacks of a node that was cached once."""

    node: int


class CheckFetch(_TrafficStep, frozen=True, tag="check fetch"):
    """Check whether the pages of a node have arrived from storage."""

    node: int


class AbortFetch(_TrafficStep, frozen=True, tag="abort fetch"):
    """Abort the request that pages of a node are fetched for."""

    node: int


class CheckStorage(_TrafficStep, frozen=True, tag="check storage"):
    """Check which copies have finished, and which nodes are stored."""


class DetachStorage(_TrafficStep, frozen=True, tag="detach storage"):
    """Detach storage, and attach it again; its pages stay."""


class StepDevice(_TrafficStep, frozen=True, tag="advance"):
    """Call the device, so that it runs pending work if the schedule chooses to."""


class DrainQueues(_TrafficStep, frozen=True, tag="settle"):
    """Wait for everything, and compare all bytes with the model."""


class ResetCache(_TrafficStep, frozen=True, tag="reset"):
    """Reset the cache."""


TrafficStep: TypeAlias = (
    Insert
    | Extend
    | AbortRequest
    | Backup
    | CheckWrites
    | LoadBack
    | Launch
    | Forward
    | CheckLoads
    | Evict
    | EvictHost
    | ReserveSlots
    | ReleaseReserved
    | InjectFault
    | Fetch
    | CheckFetch
    | AbortFetch
    | CheckStorage
    | DetachStorage
    | StepDevice
    | DrainQueues
    | ResetCache
)


def describe_step(step: TrafficStep) -> str:
    """Return a step in words, ``backup node=3``."""
    fields = msgspec.to_builtins(step)
    name = fields.pop("do")
    return " ".join([name, *(f"{key}={value}" for key, value in fields.items())])
