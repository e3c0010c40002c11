"""A campaign: controls, then every mutant on the scenarios that reach it, then the survivors."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tools.errors import ToolError
from tools.mutation.baseline import write_baseline
from tools.mutation.executors import Executor
from tools.mutation.journal import Journal
from tools.mutation.model import Mutant, Place
from tools.mutation.orders import Fate, Judge, Rehearsal, Rehearse
from tools.playing import OnPlayed
from traces.scenarios import Scenario

MORE_AFTER_KILL = 3
"""Scenarios after the first kill that look whether a second field differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a campaign does.

    Attributes:
        root: directory that holds the target.
        target: whose code.
        files: of it, that are mutated.
        mutants: to be judged.
        scenarios: to be played, by name.
        devices: where each is played, by beginning of a mutated path; the empty one is the rest.
        limit_seconds: time one scenario may take.
        scenarios_max: scenarios that a mutant is played on at most; None for all that reach it.
    """

    root: Path
    target: str
    files: tuple[str, ...]
    mutants: tuple[Mutant, ...]
    scenarios: Mapping[str, Scenario]
    devices: Mapping[str, str]
    limit_seconds: float
    scenarios_max: int | None

    def device_of(self, mutant: Mutant) -> str:
        """Return where a mutant is played."""
        file = mutant.places[0].file
        return next(
            self.devices[start]
            for start in sorted(self.devices, key=len, reverse=True)
            if file.startswith(start)
        )

    @property
    def digest(self) -> str:
        """Tells this campaign from those of another source, device or list of scenarios."""
        found = sha256(repr(sorted(self.scenarios)).encode() + repr(self.devices).encode())
        for file in self.files:
            found.update((self.root / file).read_bytes())
        return found.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The code as it is, played.

    Attributes:
        plays: by device and scenario; in the order to play them.
        unplayable: why, by scenario.
    """

    plays: Mapping[tuple[str, str], Rehearsal]
    unplayable: Mapping[str, str]

    def reaching(self, mutant: Mutant, *, device: str) -> tuple[str, ...]:
        """Return the scenarios that execute a changed line, in the order to play them."""
        return tuple(
            name
            for (where, name), play in self.plays.items()
            if where == device and any(_executes(play, place) for place in mutant.places)
        )

    def all_on(self, device: str) -> tuple[str, ...]:
        """Return all scenarios of a device, in that order."""
        return tuple(name for where, name in self.plays if where == device)


def _devices(plan: Plan) -> list[str]:
    return sorted({plan.devices[""], *(plan.device_of(mutant) for mutant in plan.mutants)})


def play_num(plan: Plan) -> int:
    """Return how often :func:`rehearsed` reports progress."""
    return len(_devices(plan)) * len(plan.scenarios)


def rehearsed(plan: Plan, executor: Executor, *, on_played: OnPlayed) -> Stand:
    """Play every scenario on the code as it is.

    Raises:
        ToolError: none can be played.
    """
    orders = [
        Rehearse(scenario=scenario, device=device, files=plan.files)
        for device in _devices(plan)
        for scenario in plan.scenarios.values()
    ]
    plays: dict[tuple[str, str], Rehearsal] = {}
    unplayable: dict[str, str] = {}
    for number, play in executor.results(orders):
        on_played(play.name)
        if play.reason:
            unplayable[play.name] = play.reason
        else:
            plays[orders[number].device, play.name] = play
    if not plays:
        raise ToolError("scenarios", "must be played", expected="at least one", got=unplayable)
    order = _builders_in_turn(plan, plays)
    return Stand(plays={key: plays[key] for key in order}, unplayable=unplayable)


def _builders_in_turn(
    plan: Plan, plays: Mapping[tuple[str, str], Rehearsal]
) -> list[tuple[str, str]]:
    """Return first the cheapest scenario of every builder, then the second cheapest, and so on."""
    turns: dict[tuple[str, str], int] = {}
    ranked = []
    for key in sorted(plays, key=lambda key: (plays[key].seconds, key)):
        builder = (key[0], plan.scenarios[key[1]].builder)
        turns[builder] = turns.get(builder, 0) + 1
        ranked.append((turns[builder], key))
    return [key for _, key in sorted(ranked)]


def run(
    plan: Plan, executor: Executor, journal: Journal, *, stand: Stand, on_judged: OnPlayed
) -> list[Fate]:
    """Judge every mutant that the journal does not know; return the fate of all.

    Raises:
        ToolError: a control fails, or an order was lost too often.
    """
    with tempfile.TemporaryDirectory() as folder:
        baseline = Path(folder) / "baseline"
        write_baseline(baseline, scenarios=plan.scenarios, plays=stand.plays)
        executor.load(baseline)
        unstable = _controlled(plan, executor, stand)
        if unstable:
            write_baseline(
                baseline, scenarios=plan.scenarios, plays=stand.plays, stateless=unstable
            )
            executor.load(baseline)
        _judge(plan, executor, journal, stand=stand, on_judged=on_judged)
    known = journal.finished
    return [known[mutant.id] for mutant in plan.mutants]


def _judge(
    plan: Plan, executor: Executor, journal: Journal, *, stand: Stand, on_judged: OnPlayed
) -> None:
    orders: list[Judge] = []
    reaching: list[int] = []
    for mutant in plan.mutants:
        device = plan.device_of(mutant)
        names = stand.reaching(mutant, device=device)
        if _is_settled(journal.finished.get(mutant.id), plan=plan):
            on_judged(mutant.operator)
        elif mutant.is_equivalent or not names:
            journal.add(_unplayed(mutant))
            on_judged(mutant.operator)
        else:
            reaching.append(len(names))
            orders.append(_order(plan, mutant, names[: plan.scenarios_max], device=device))
    for number, fate in executor.results(orders):
        journal.add(_with(fate, reaching=reaching[number]))
        on_judged(fate.operator)


def _is_settled(fate: Fate | None, *, plan: Plan) -> bool:
    """Tell whether more scenarios could tell nothing new about a mutant."""
    if fate is None:
        return False
    could = fate.reaching if plan.scenarios_max is None else min(plan.scenarios_max, fate.reaching)
    is_open = fate.verdict == "survived" or fate.proof == "state"
    return not is_open or fate.played >= could


def _order(plan: Plan, mutant: Mutant, names: tuple[str, ...], *, device: str) -> Judge:
    return Judge(
        mutant=mutant,
        names=names,
        device=device,
        limit_seconds=plan.limit_seconds,
        more=MORE_AFTER_KILL,
    )


def _unplayed(mutant: Mutant) -> Fate:
    return Fate(
        id=mutant.id,
        operator=mutant.operator,
        key=mutant.key,
        label=mutant.label,
        verdict="equivalent" if mutant.is_equivalent else "unreached",
        proof="bytecode" if mutant.is_equivalent else "",
    )


def _controlled(plan: Plan, executor: Executor, stand: Stand) -> frozenset[tuple[str, str]]:
    """Run the controls; return where the state left is not the same every time: it proves nothing.

    Raises:
        ToolError: a mutant that changes nothing is caught, or one that cannot run is not.
    """
    file = plan.files[0]
    text = (plan.root / file).read_text(encoding="utf-8")
    keys = list(stand.plays)
    noop = _control("no_operation", file, f"{text}\n# nothing\n")
    broken = _control("always_broken", file, f"{text}\nraise RuntimeError('always broken')\n")
    orders = [
        *(_order(plan, noop, (name,), device=device) for device, name in keys),
        _order(plan, broken, (keys[0][1],), device=keys[0][0]),
    ]
    fates = dict(executor.results(orders))
    for number, fate in fates.items():
        expected = ("loud",) if number == len(keys) else ("equivalent", "survived")
        if fate.verdict not in expected:
            rule = f"must be judged {' or '.join(expected)}, or no figure means anything"
            raise ToolError(f"control {fate.operator}", rule, expected=expected[0], got=fate)
    return frozenset(key for number, key in enumerate(keys) if fates[number].verdict == "survived")


def _control(operator: str, file: str, text: str) -> Mutant:
    return Mutant(
        id=operator,
        operator=operator,
        key=operator,
        places=(Place(file=file, first=1, last=1),),
        functions=(),
        parameters=(),
        texts={file: text},
        is_equivalent=False,
    )


def _with(fate: Fate, **changes: object) -> Fate:
    import msgspec

    return msgspec.structs.replace(fate, **changes)


def _executes(play: Rehearsal, place: Place) -> bool:
    lines = play.reached.get(place.file, frozenset())
    return any(line in lines for line in range(place.first, place.last + 1))
