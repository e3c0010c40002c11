"""Whether a device plays exactly what the goldens say, and the certificate of a GPU that does."""

from collections.abc import Mapping
from dataclasses import dataclass

from tools import provenance
from tools.certificate import Entry, goldens_sha256, with_entry
from tools.errors import ToolError
from tools.gate import Case, Evidence, verdict_on
from tools.git import is_dirty
from tools.inventory import Stock, format_causes, read_stock
from tools.playing import Playing, recorded
from tools.progress import progress
from tools.standing import own
from tools.testimony import OpenTroupe
from tools.transaction import Transaction
from traces.diff import compare_sides
from traces.goldens import PARITY, PROVENANCE, orphans
from traces.model import Recording
from traces.parity import Declared, comparable, without_declared
from traces.verdict import Cause, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What came of playing on a device.

    Attributes:
        player: device and versions of what played.
        goldens: bytes of the goldens compared, by name.
        equal: scenarios whose trace is the golden, declared fields left out.
        identical: those of them whose declared fields are the golden's as well: every byte.
    """

    verdict: Verdict
    player: Mapping[str, str]
    goldens: Mapping[str, bytes]
    equal: tuple[str, ...]
    identical: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Return ``71 equal, 0 different on NVIDIA H100 (driver 570.1, torch 2.13)``."""
        player = self.player
        different = self.verdict.scenarios.played - len(self.equal)
        driver = f"driver {player['driver'] or 'unknown'}, " if player["device"] == "cuda" else ""
        made_of = f"{player['device_name']} ({driver}torch {player['torch']})"
        return f"parity: {len(self.equal)} equal, {different} different on {made_of}"


def require_certifiable(case: Case) -> None:
    """Refuse a certificate that could not speak for all goldens on a GPU, before playing.

    Raises:
        ToolError: scenarios were named, or the device is not a GPU.
    """
    subject = "parity --write"
    if not case.is_whole:
        rule, expected = "must play every scenario", "no SCENARIO"
        raise ToolError(subject, rule, expected=expected, got=" ".join(case.names))
    if case.device.partition(":")[0] != "cuda":
        raise ToolError(subject, "must play on a GPU", expected="--device cuda", got=case.device)


def prove(case: Case, *, open_troupe: OpenTroupe, declared: Declared) -> Parity:
    """Play the work tree on the case's device and compare with the goldens.

    Args:
        case: what to play, and where.
        open_troupe: starts whoever plays.
        declared: fields in which the device may differ.

    Raises:
        ToolError: there is nothing to play, no such GPU, or the target cannot be imported.
    """
    if not case.names:
        raise ToolError("scenarios", "must be played", expected="at least one", got=0)
    surplus = orphans(case.folder, case.scenarios) if case.is_whole else ()
    stock = read_stock(case.folder, names=(*case.names, *surplus))
    with open_troupe(own(case.root)) as troupe:
        player = troupe.provenance(device=case.device)
        if not player["device"]:
            rule = "must be on this machine"
            raise ToolError(f"--device {case.device}", rule, expected="a GPU", got="none")
        with progress(f"playing on {case.device}", total=len(case.names)) as on_played:
            playing = troupe.play(case.to_play, device=case.device, on_played=on_played)
    equal = _alike(playing, stock=stock, declared=declared)
    evidence = _evidence(case, playing=playing, stock=stock, declared=declared, equal=equal)
    return Parity(
        verdict=_verdict(case, evidence, player=player),
        player=player,
        goldens={name: golden.content for name, golden in stock.goldens.items()},
        equal=equal,
        identical=_alike(playing, stock=stock, declared={}),
    )


def certify(case: Case, parity: Parity, *, commit: str | None) -> str:
    """Write the certificate if nothing differs; return one line about it.

    Goldens that were not recorded on a GPU so far, and whose very bytes this one gave, are from now
    on recorded on it: their provenance changes in the same transaction.

    Args:
        case: what was played.
        parity: what came of it.
        commit: what was played, where git does not know; None to ask git.

    Raises:
        ToolError: the folder cannot be written; nothing has changed.
    """
    if parity.verdict.verdict != "pass":
        return f"parity: {PARITY} not written: every scenario must equal its golden"
    stamp = provenance.stamped(parity.player, root=case.root, commit=commit)
    entry = Entry(
        scenarios=len(case.names),
        differences=0,
        goldens_sha256=goldens_sha256(parity.goldens),
        device_name=stamp["device_name"],
        driver=stamp["driver"],
        cuda=stamp["cuda"],
        torch=stamp["torch"],
        python=stamp["python"],
        commit=stamp["commit"],
        dirty=is_dirty(case.root, besides=case.folder)
        if commit is None and stamp["commit"]
        else None,
        date=stamp["date"],
    )
    known = provenance.devices(case.folder)
    new = {name: stamp for name in parity.identical if known.get(name) != "cuda"}
    record = provenance.updated(case.folder, written=new, removed=())
    try:
        with Transaction() as transaction:
            transaction.write(case.folder / PARITY, with_entry(case.folder, entry).encode())
            transaction.write(case.folder / PROVENANCE, record.encode())
            transaction.commit()
    except OSError as error:
        got = error.strerror or error
        expected = "a writable directory"
        raise ToolError(str(case.folder), "must be writable", expected=expected, got=got) from error
    return f"parity: {PARITY} written for {entry.device_name}"


def _evidence(
    case: Case,
    *,
    playing: Playing,
    stock: Stock,
    declared: Declared,
    equal: tuple[str, ...],
) -> Evidence:
    recordings = recorded(playing)
    causes = (
        *_differences(case, recordings, stock, declared),
        *format_causes(stock, root=case.root),
    )
    explained = {name for cause in causes for name in cause.scenarios}
    judged = recordings.keys() - stock.problems.keys()
    return Evidence(
        head=recordings,
        base_unplayable={},
        head_unplayable={},
        causes=causes,
        obstacles=(*stock.problems.values(), *playing.problems),
        faults=tuple(
            str(ToolError(name, "must equal its golden", expected="its bytes", got="others"))
            for name in case.names
            if name in judged and name not in equal and name not in explained
        ),
        notes=(),
    )


def _differences(
    case: Case, recordings: Mapping[str, Recording], stock: Stock, declared: Declared
) -> tuple[Cause, ...]:
    """Compare what was played with its goldens; one that cannot be read is no difference."""
    unplayed = frozenset(case.names) - recordings.keys()
    return compare_sides(
        {
            name: Recording(trace=without_declared(golden.trace, declared=declared), sites=None)
            for name, golden in stock.goldens.items()
            if name not in unplayed
        },
        {
            name: Recording(
                trace=without_declared(recording.trace, declared=declared), sites=recording.sites
            )
            for name, recording in recordings.items()
            if name not in stock.problems
        },
    )


def _alike(playing: Playing, *, stock: Stock, declared: Declared) -> tuple[str, ...]:
    return tuple(
        name
        for name, performance in playing.performances.items()
        if name in stock.goldens
        and comparable(performance.text, declared=declared)
        == comparable(stock.goldens[name].content.decode(), declared=declared)
    )


def _verdict(case: Case, evidence: Evidence, *, player: Mapping[str, str]) -> Verdict:
    return verdict_on(
        evidence,
        target=case.target,
        base={"side": "golden"},
        head={"side": case.device, **player},
        strict=True,
    )
