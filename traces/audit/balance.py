"""Slots without one owner, and locks that are left when everything is over."""

from collections.abc import Iterator

from traces.audit.assembly_calls import Recordings
from traces.audit.origins import stack_origin
from traces.schema.life import NodeLocks, PoolBalance
from traces.schema.model import Recording
from traces.schema.verdict import Cause, Kind


def unbalanced_pools(recordings: Recordings) -> tuple[Cause, ...]:
    """Return findings about slots that have no owner or two, wrong counts and locks left over."""
    return tuple(cause for name, one in recordings.items() for cause in _of_scenario(name, one))


def _of_scenario(name: str, recording: Recording) -> Iterator[Cause]:
    balances = [one for one in recording.trace.events if isinstance(one, PoolBalance)]
    for balance in balances:
        counted = _counted(balance)
        cached = counted if balance.cached is None else balance.cached
        if cached is None:
            continue
        owned = balance.free + cached + balance.held
        if owned != balance.total:
            yield _finding(
                name,
                recording,
                where=f"slots of {balance.owner} in {balance.step}",
                message=f"Of {balance.total} slots of {balance.owner}, {balance.free} are free, "
                f"{cached} the cache's and {balance.held} taken {_moment(balance)}.",
                values=(balance.total, owned),
            )
        if counted is not None and counted != cached:
            yield _finding(
                name,
                recording,
                where=f"counts of {balance.owner}",
                message=f"The cache counts {balance.evictable} slots of {balance.owner} as "
                f"evictable and {balance.protected} as locked, and its nodes have "
                f"{cached} {_moment(balance)}.",
                values=(cached, counted),
            )
    yield from _locks_left(name, recording, balances)


def _locks_left(name: str, recording: Recording, balances: list[PoolBalance]) -> Iterator[Cause]:
    """Yield nodes with locks at a moment when everything that was begun is over."""
    final = {(one.step, one.moment) for one in balances if one.is_final}
    for locks in recording.trace.events:
        if not isinstance(locks, NodeLocks) or (locks.step, locks.moment) not in final:
            continue
        for side, number in (("device", locks.device), ("host", locks.host)):
            if number:
                yield _finding(
                    name,
                    recording,
                    where=f"{side} locks of {locks.component}",
                    message=f"Node {locks.node} has {number} {side} locks on {locks.component} "
                    f"{_moment(locks)}, when every copy and request is over.",
                    values=(0, number),
                )


def _counted(balance: PoolBalance) -> int | None:
    """Return how many slots of nodes the cache counts; None where it does not count them."""
    if balance.evictable is None or balance.protected is None:
        return None
    return balance.evictable + balance.protected


def _moment(record: NodeLocks | PoolBalance) -> str:
    return f"at {record.moment!r} in step {record.step!r}"


def _finding(
    name: str, recording: Recording, *, where: str, message: str, values: tuple[int, int]
) -> Cause:
    origin = stack_origin(recording)
    return origin.finding(Kind.UNBALANCED, name, where=where, message=message, values=values)
