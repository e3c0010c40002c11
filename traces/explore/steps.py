"""What traffic consists of. A step names its node, so that a list of steps can be read and edited.

A step that makes no sense where it stands, such as the backup of a node that was dropped, does
nothing: any part of a list of steps is a list of steps.
"""

from typing import Literal, TypeAlias

import msgspec

Part: TypeAlias = Literal["full", "swa", "mamba"]
Site: TypeAlias = Literal["host", "host sidecar", "device", "device sidecar", "indices", "copy"]


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do"):
    """Base of the steps."""


class Insert(_Step, frozen=True, tag="insert"):
    """Take slots for a new node, write fresh bytes there as attention would, and cache it."""

    node: int
    pages: int


class Abandon(_Step, frozen=True, tag="abandon"):
    """Take slots and write to them, then give them back: a request that was aborted."""

    pages: int


class Backup(_Step, frozen=True, tag="backup"):
    """Back a node up."""

    node: int


class CheckWrites(_Step, frozen=True, tag="check writes"):
    """Ask which backups have finished; ``wait`` for all of them, or not."""

    wait: bool


class Load(_Step, frozen=True, tag="load"):
    """Queue a node for loading, for a request that keeps it until its forward pass."""

    node: int


class Launch(_Step, frozen=True, tag="launch"):
    """Launch the queued loads."""


class Forward(_Step, frozen=True, tag="forward"):
    """Read all layers, in order, of the nodes of the oldest launch, and of ``node`` as well."""

    node: int


class CheckLoads(_Step, frozen=True, tag="check loads"):
    """Ask which loads have finished."""


class Evict(_Step, frozen=True, tag="evict"):
    """Free device slots of a part of some nodes."""

    part: Part
    pages: int


class EvictHost(_Step, frozen=True, tag="evict host"):
    """Drop host copies of some nodes."""

    part: Part
    pages: int


class Hoard(_Step, frozen=True, tag="hoard"):
    """Take free slots of one pool away until :class:`GiveBack`, all but ``spare`` pages."""

    side: Literal["device", "host"]
    part: Part
    spare: int


class GiveBack(_Step, frozen=True, tag="give back"):
    """Give all hoarded slots back."""


class Fail(_Step, frozen=True, tag="fail"):
    """Let a site fail ``times`` times, after it worked ``after`` more times."""

    site: Site
    after: int
    times: int


class Advance(_Step, frozen=True, tag="advance"):
    """Let the device do pending work, if the schedule likes."""


class Settle(_Step, frozen=True, tag="settle"):
    """Wait for everything, and compare all bytes with the model."""


class Reset(_Step, frozen=True, tag="reset"):
    """Reset the cache."""


Step: TypeAlias = (
    Insert
    | Abandon
    | Backup
    | CheckWrites
    | Load
    | Launch
    | Forward
    | CheckLoads
    | Evict
    | EvictHost
    | Hoard
    | GiveBack
    | Fail
    | Advance
    | Settle
    | Reset
)


def wording(step: Step) -> str:
    """Return a step in words, ``backup node=3``."""
    fields = msgspec.to_builtins(step)
    name = fields.pop("do")
    return " ".join([name, *(f"{key}={value}" for key, value in fields.items())])
