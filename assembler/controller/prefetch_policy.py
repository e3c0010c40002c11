"""Policies that end a prefetch: at once, when it is complete, or after a time."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Self

from assembler.errors import AssemblyError


class PrefetchPolicy(StrEnum):
    """The moment when a scheduler stops waiting for pages from storage."""

    BEST_EFFORT = "best_effort"
    WAIT_COMPLETE = "wait_complete"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchOptions:
    """Options of prefetching, which stand among those of the storage backend.

    Attributes:
        prefetch_policy: a :class:`PrefetchPolicy` value.
        prefetch_timeout_base: seconds that any prefetch may take.
        prefetch_timeout_per_ki_token: seconds more for each 1024 tokens.
        prefetch_timeout_max: seconds that no prefetch may exceed.

    Source: sglang 0.5.12 ``hiradix_cache.py:535-625, 1114-1152``, ``hicache_storage.py:43-49``;
        there the policy is a server argument.
    """

    prefetch_policy: PrefetchPolicy = PrefetchPolicy.TIMEOUT
    prefetch_timeout_base: float = 2.0
    prefetch_timeout_per_ki_token: float = 0.1
    prefetch_timeout_max: float = 30.0

    @classmethod
    def split(cls, options: Mapping[str, object]) -> tuple[Self, dict[str, object]]:
        """Return the options of prefetching, and the others.

        Raises:
            AssemblyError: an option has a value of another type, or a policy is unknown.
        """
        names = {field.name for field in fields(cls)}
        known = {name: value for name, value in options.items() if name in names}
        others = {name: value for name, value in options.items() if name not in names}
        policy = known.pop("prefetch_policy", PrefetchPolicy.TIMEOUT)
        seconds = {name: _seconds(name, value) for name, value in known.items()}
        return cls(prefetch_policy=_policy(policy), **seconds), others

    def may_end(self, *, is_over: bool, seconds: float, token_num: int) -> bool:
        """Return whether a prefetch of some tokens that began some time ago may end now."""
        match self.prefetch_policy:
            case PrefetchPolicy.BEST_EFFORT:
                return True
            case PrefetchPolicy.WAIT_COMPLETE:
                return is_over
            case PrefetchPolicy.TIMEOUT:
                longest = (
                    self.prefetch_timeout_base
                    + self.prefetch_timeout_per_ki_token * token_num / 1024
                )
                return is_over or seconds > min(self.prefetch_timeout_max, longest)


_RULE = "a storage option must have its type"


def _policy(value: object) -> PrefetchPolicy:
    if value not in set(PrefetchPolicy):
        expected = " or ".join(PrefetchPolicy)
        raise AssemblyError("prefetch_policy", _RULE, expected=expected, got=repr(value))
    return PrefetchPolicy(str(value))


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AssemblyError(name, _RULE, expected="a number of seconds", got=repr(value))
    return float(value)
