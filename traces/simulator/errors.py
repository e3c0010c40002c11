"""Errors that only the simulated device raises."""

from assembler.errors import HiCacheError


class RaceError(HiCacheError, RuntimeError):
    """Two accesses to the same bytes, one of them a write, that nothing orders."""


class ReplayError(HiCacheError, RuntimeError):
    """A program asks for other decisions than the log of a schedule has."""
