"""A campaign: controls, then every mutant on the scenarios that reach it, then the survivors."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tools.errors import ToolError
from tools.mutation.executors import Executor
from tools.mutation.journal import Journal
from tools.mutation.model import Mutant, Place
from tools.mutation.orders import Fate, Fingerprints, Judge, Rehearsal, Rehearse
from tools.mutation.stages import write_baseline
from tools.playing import OnPlayed
from traces.scenarios import Scenario

MORE_AFTER_KILL = 5
"""Scenarios after the first kill that look whether a second field differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a campaign does.

    Attributes:
        root: directory that holds the target.
        files: of it, that are mutated.
        mutants: to be judged.
        scenarios: to be played, by name.
        devices: where each is played, by beginning of a mutated path; the empty one is the rest.
        limit_seconds: time one scenario may take.
    """

    root: Path
    files: tuple[str, ...]
    mutants: tuple[Mutant, ...]
    scenarios: Mapping[str, Scenario]
    devices: Mapping[str, str]
    limit_seconds: float

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
        plays: by device and scenario; cheapest first.
        unplayable: why, by scenario.
    """

    plays: Mapping[tuple[str, str], Rehearsal]
    unplayable: Mapping[str, str]

    def reaching(self, mutant: Mutant, *, device: str) -> tuple[str, ...]:
        """Return the scenarios that execute a changed line, cheapest first."""
        return tuple(
            name
            for (where, name), play in self.plays.items()
            if where == device and any(_executes(play, place) for place in mutant.places)
        )

    def all_on(self, device: str) -> tuple[str, ...]:
        """Return all scenarios of a device, cheapest first."""
        return tuple(name for where, name in self.plays if where == device)


def rehearsed(plan: Plan, executor: Executor, *, on_played: OnPlayed) -> Stand:
    """Play every scenario on the code as it is.

    Raises:
        ToolError: none can be played.
    """
    devices = sorted(set(plan.devices.values()))
    orders = [
        Rehearse(scenario=scenario, device=device, files=plan.files)
        for device in devices
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
    order = sorted(plays, key=lambda key: (plays[key].seconds, key))
    return Stand(plays={key: plays[key] for key in order}, unplayable=unplayable)


def run(
    plan: Plan, executor: Executor, journal: Journal, *, stand: Stand, on_judged: OnPlayed
) -> list[Fate]:
    """Judge every mutant that the journal does not know; return the fate of all.

    Raises:
        ToolError: a control fails, or an order was lost too often.
    """
    with tempfile.TemporaryDirectory() as folder:
        baseline = Path(folder) / "baseline"
        write_baseline(
            baseline, scenarios=plan.scenarios, plays=tuple(_one_device(plan, stand).values())
        )
        executor.load(baseline)
        stable = _controlled(plan, executor, stand)
        _judge(plan, executor, journal, stand=stand, on_judged=on_judged)
        _prove(plan, executor, journal, stand=stand, stable=stable)
    known = journal.finished
    return [known[mutant.id] for mutant in plan.mutants]


def _one_device(plan: Plan, stand: Stand) -> dict[str, Rehearsal]:
    """Return one recording of each scenario: devices differ in time, not in traces."""
    found = {name: play for (_, name), play in stand.plays.items()}
    for (device, name), play in stand.plays.items():
        if play.recording != found[name].recording and device == plan.devices[""]:
            found[name] = play
    return found


def _judge(
    plan: Plan, executor: Executor, journal: Journal, *, stand: Stand, on_judged: OnPlayed
) -> None:
    orders: list[Judge] = []
    reaching: list[int] = []
    for mutant in plan.mutants:
        device = plan.device_of(mutant)
        names = stand.reaching(mutant, device=device)
        if mutant.id in journal.finished:
            on_judged(mutant.operator)
        elif mutant.is_equivalent or not names:
            journal.add(_unplayed(mutant))
            on_judged(mutant.operator)
        else:
            reaching.append(len(names))
            orders.append(_order(plan, mutant, names))
    for number, fate in executor.results(orders):
        journal.add(_with(fate, reaching=reaching[number]))
        on_judged(fate.operator)


def _order(plan: Plan, mutant: Mutant, names: tuple[str, ...]) -> Judge:
    return Judge(
        mutant=mutant,
        names=names,
        device=plan.device_of(mutant),
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


def _prove(
    plan: Plan, executor: Executor, journal: Journal, *, stand: Stand, stable: Mapping[str, str]
) -> None:
    """Compare the full state of survivors with that of the code as it is."""
    mutants = {mutant.id: mutant for mutant in plan.mutants}
    survivors = [
        mutants[fate.id]
        for fate in journal.finished.values()
        if fate.verdict == "survived" and fate.id in mutants
    ]
    orders = [_state_order(plan, mutant, stand=stand) for mutant in survivors]
    for number, states in executor.results(orders):
        fate = journal.finished[survivors[number].id]
        if states and all(stable.get(name) == state for name, state in states.items()):
            journal.add(_with(fate, verdict="equivalent", proof="state"))


def _state_order(plan: Plan, mutant: Mutant, *, stand: Stand) -> Fingerprints:
    device = plan.device_of(mutant)
    return Fingerprints(
        texts=mutant.texts,
        names=stand.reaching(mutant, device=device),
        device=device,
        limit_seconds=plan.limit_seconds,
    )


def _controlled(plan: Plan, executor: Executor, stand: Stand) -> Mapping[str, str]:
    """Run the controls; return the fingerprints of the code as it is that are the same twice.

    Raises:
        ToolError: a mutant that changes nothing is caught, or one that cannot run is not.
    """
    file = plan.files[0]
    text = (plan.root / file).read_text(encoding="utf-8")
    device = plan.devices[""]
    names = stand.all_on(device)
    noop = _control("no_operation", file, f"{text}\n# nothing\n")
    broken = _control("always_broken", file, f"{text}\nraise RuntimeError('always broken')\n")
    orders = [*(_order(plan, noop, (name,)) for name in names), _order(plan, broken, names[:1])]
    fates = dict(executor.results(orders))
    for number, fate in fates.items():
        expected = "loud" if number == len(names) else "survived"
        if fate.verdict != expected:
            rule = f"must be judged {expected}, or no figure means anything"
            raise ToolError(f"control {fate.operator}", rule, expected=expected, got=fate)
    return dict(_stable(plan, executor, names=names, device=device, texts=noop.texts))


def _stable(
    plan: Plan,
    executor: Executor,
    *,
    names: Sequence[str],
    device: str,
    texts: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    orders = [
        Fingerprints(texts=of, names=(name,), device=device, limit_seconds=plan.limit_seconds)
        for name in names
        for of in ({}, texts)
    ]
    states: dict[str, set[str]] = {}
    for _, found in executor.results(orders):
        for name, state in found.items():
            states.setdefault(name, set()).add(state)
    for name, of_name in states.items():
        if len(of_name) == 1:
            yield name, of_name.pop()


def _control(operator: str, file: str, text: str) -> Mutant:
    return Mutant(
        id=operator,
        operator=operator,
        key=operator,
        places=(Place(file=file, first=1, last=1),),
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
