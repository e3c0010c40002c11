"""Whether a device plays exactly what the goldens say, and the certificate of a GPU that does."""

from collections.abc import Mapping
from dataclasses import dataclass

from tools.errors import ToolError
from tools.gate.request import GateRequest, GateResult, build_verdict
from tools.gate.side_results import RunnerFactory
from tools.git import is_dirty
from tools.goldens import provenance
from tools.goldens.certificate import CertificateEntry, add_certificate_entry, goldens_sha256
from tools.goldens.golden_set import GoldenSet, format_causes, read_golden_set
from tools.goldens.transaction import Transaction
from tools.progress import progress
from tools.sides.prepare import local_side
from tools.workers.protocol import ReadProvenance
from tools.workers.results import RunResults, parse_recordings, run_scenarios
from traces.diff import compare_sides
from traces.pytest.golden_files import PARITY, PROVENANCE, orphans
from traces.schema.model import Recording
from traces.schema.verdict import Cause, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityResult:
    """What came of playing on a device.

    Attributes:
        player: device and versions of what played.
        goldens: bytes of the goldens compared, by name.
        equal: scenarios whose trace has every byte of the golden.
    """

    verdict: Verdict
    worker_info: Mapping[str, str]
    goldens: Mapping[str, bytes]
    equal: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Return ``71 equal, 0 different on NVIDIA H100 (driver 570.1, torch 2.13)``."""
        player = self.worker_info
        different = self.verdict.scenarios.played - len(self.equal)
        driver = f"driver {player['driver'] or 'unknown'}, " if player["device"] == "cuda" else ""
        made_of = f"{player['device_name']} ({driver}torch {player['torch']})"
        return f"parity: {len(self.equal)} equal, {different} different on {made_of}"


def require_certifiable(request: GateRequest) -> None:
    """Refuse a certificate that could not speak for all goldens on a GPU, before playing.

    Raises:
        ToolError: scenarios were named, or the device is not a GPU.
    """
    subject = "parity --write"
    if not request.is_whole:
        rule, expected = "must play every scenario", "no SCENARIO"
        raise ToolError(subject, rule, expected=expected, got=" ".join(request.names))
    if request.device.partition(":")[0] != "cuda":
        raise ToolError(subject, "must play on a GPU", expected="--device cuda", got=request.device)


def check_parity(request: GateRequest, *, open_runner: RunnerFactory) -> ParityResult:
    """Play the work tree on the case's device and compare with the goldens.

    Args:
        request: what to play, and where.
        open_runner: starts whoever plays.

    Raises:
        ToolError: there is nothing to play, no such GPU, or the target cannot be imported.
    """
    if not request.names:
        raise ToolError("scenarios", "must be played", expected="at least one", got=0)
    surplus = orphans(request.folder, request.scenarios) if request.is_whole else ()
    stock = read_golden_set(request.folder, names=(*request.names, *surplus))
    with open_runner(local_side(request.root)) as troupe:
        player = troupe.call(ReadProvenance(device=request.device))
        if not player["device"]:
            rule = "must be on this machine"
            raise ToolError(f"--device {request.device}", rule, expected="a GPU", got="none")
        with progress(f"playing on {request.device}", total=len(request.names)) as on_played:
            playing = run_scenarios(
                troupe, request.selected_scenarios, device=request.device, on_run=on_played
            )
    equal = _equal_scenarios(playing, golden_set=stock)
    evidence = _gate_result(request, results=playing, golden_set=stock, equal=equal)
    return ParityResult(
        verdict=_build_verdict(request, evidence, worker_info=player),
        worker_info=player,
        goldens={name: golden.content for name, golden in stock.goldens.items()},
        equal=equal,
    )


def write_certificate(request: GateRequest, parity: ParityResult, *, commit: str | None) -> str:
    """Write the certificate if nothing differs; return one line about it.

    Goldens that were not recorded on a GPU so far, and whose very bytes this one gave, are from now
    on recorded on it: their provenance changes in the same transaction.

    Args:
        request: what was played.
        parity: what came of it.
        commit: what was played, where git does not know; None to ask git.

    Raises:
        ToolError: the folder cannot be written; nothing has changed.
    """
    if parity.verdict.verdict != "pass":
        return f"parity: {PARITY} not written: every scenario must equal its golden"
    stamp = provenance.stamp_provenance(parity.worker_info, root=request.root, commit=commit)
    entry = CertificateEntry(
        scenarios=len(request.names),
        differences=0,
        goldens_sha256=goldens_sha256(parity.goldens),
        device_name=stamp["device_name"],
        driver=stamp["driver"],
        cuda=stamp["cuda"],
        torch=stamp["torch"],
        python=stamp["python"],
        commit=stamp["commit"],
        dirty=is_dirty(request.root, excluding=request.folder)
        if commit is None and stamp["commit"]
        else None,
        date=stamp["date"],
    )
    known = provenance.recorded_devices(request.folder)
    new = {name: stamp for name in parity.equal if known.get(name) != "cuda"}
    record = provenance.render_provenance(request.folder, written=new, removed=())
    try:
        with Transaction() as transaction:
            transaction.write(
                request.folder / PARITY, add_certificate_entry(request.folder, entry).encode()
            )
            transaction.write(request.folder / PROVENANCE, record.encode())
            transaction.commit()
    except OSError as error:
        got = error.strerror or error
        expected = "a writable directory"
        raise ToolError(
            str(request.folder), "must be writable", expected=expected, got=got
        ) from error
    return f"parity: {PARITY} written for {entry.device_name}"


def _gate_result(
    request: GateRequest,
    *,
    results: RunResults,
    golden_set: GoldenSet,
    equal: tuple[str, ...],
) -> GateResult:
    recordings = parse_recordings(results)
    causes = (
        *_differences(request, recordings, golden_set),
        *format_causes(golden_set, root=request.root),
    )
    explained = {name for cause in causes for name in cause.scenarios}
    judged = recordings.keys() - golden_set.problems.keys()
    return GateResult(
        head=recordings,
        base_unplayable={},
        head_unplayable={},
        causes=causes,
        obstacles=(*golden_set.problems.values(), *results.problems),
        faults=tuple(
            str(ToolError(name, "must equal its golden", expected="its bytes", got="others"))
            for name in request.names
            if name in judged and name not in equal and name not in explained
        ),
        notes=(),
    )


def _differences(
    request: GateRequest,
    recordings: Mapping[str, Recording],
    golden_set: GoldenSet,
) -> tuple[Cause, ...]:
    """Compare what was played with its goldens; one that cannot be read is no difference."""
    unplayed = frozenset(request.names) - recordings.keys()
    return compare_sides(
        {
            name: Recording(trace=golden.trace, sites=None)
            for name, golden in golden_set.goldens.items()
            if name not in unplayed
        },
        {
            name: recording
            for name, recording in recordings.items()
            if name not in golden_set.problems
        },
    )


def _equal_scenarios(results: RunResults, *, golden_set: GoldenSet) -> tuple[str, ...]:
    return tuple(
        name
        for name, performance in results.by_scenario.items()
        if name in golden_set.goldens
        and performance.text == golden_set.goldens[name].content.decode()
    )


def _build_verdict(
    request: GateRequest, result: GateResult, *, worker_info: Mapping[str, str]
) -> Verdict:
    return build_verdict(
        result,
        target=request.target,
        base={"side": "golden"},
        head={"side": request.device, **worker_info},
        strict=True,
    )
