"""The base of every record of a trace."""

from typing import TypeAlias

import msgspec

Slots: TypeAlias = str
"""Slot numbers as runs in order of use: ``64-127,192``; empty for none."""


class Record(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False
):
    """Base of every record: frozen, keyword-only, unknown fields are errors."""
