"""Parity of a device with the goldens, and the certificate of a GPU."""

from collections.abc import Mapping
from dataclasses import dataclass

from tools.errors import ToolError, require_writable_path
from tools.gate.request import GateRequest, GateResult, build_verdict
from tools.git import is_dirty
from tools.goldens import sidecars
from tools.goldens.golden_set import GoldenSet, format_causes, read_golden_set
from tools.goldens.sidecars import CertificateEntry, add_certificate_entry, goldens_sha256
from tools.sides.results import SideResults, no_scenario_error
from tools.workers.protocol import ReadProvenance
from traces.diff import compare_sides
from traces.pytest.golden_files import PARITY, PROVENANCE, orphans
from traces.schema.transaction import Transaction
from traces.schema.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityResult:
    """Comparison of a device's traces with the goldens.

    Attributes:
        worker_info: device and versions of the workers.
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
        info = self.worker_info
        different = self.verdict.scenarios.played - len(self.equal)
        driver = f"driver {info['driver'] or 'unknown'}, " if info["device"] == "cuda" else ""
        device = f"{info['device_name']} ({driver}torch {info['torch']})"
        return f"parity: {len(self.equal)} equal, {different} different on {device}"


def require_certifiable(request: GateRequest) -> None:
    """Refuse a certificate that would not cover all goldens on a GPU, before the run.

    Raises:
        ToolError: scenarios were named, or the device is not a GPU.
    """
    subject = "parity --write"
    if not request.selection.is_whole:
        rule, expected = "must run every scenario", "no SCENARIO"
        raise ToolError(subject, rule, expected=expected, got=" ".join(request.selection.names))
    if request.device.partition(":")[0] != "cuda":
        raise ToolError(subject, "must run on a GPU", expected="--device cuda", got=request.device)


def check_parity(request: GateRequest) -> ParityResult:
    """Run the head of a :func:`golden_request` on its device and compare with the goldens.

    Raises:
        ToolError: there is no scenario to run, no such GPU, or the target cannot be imported.
    """
    selection = request.selection
    if not selection.names:
        raise no_scenario_error()
    surplus = orphans(request.folder, selection.known) if selection.is_whole else ()
    golden_set = read_golden_set(request.folder, names=(*selection.names, *surplus))
    with request.session.open_side(request.head) as opened:
        worker_info = opened.pool.call(ReadProvenance(device=request.device))
        if not worker_info["device"]:
            rule = "must be on this machine"
            raise ToolError(f"--device {request.device}", rule, expected="a GPU", got="none")
        results = opened.run(selection.scenarios, device=request.device, lists_builders=False)
    equal = _equal_scenarios(results, golden_set=golden_set)
    return ParityResult(
        verdict=build_verdict(
            _gate_result(request, results=results, golden_set=golden_set, equal=equal),
            target=request.session.target,
            base={"side": "golden"},
            head={"side": request.device, **worker_info},
            strict=True,
        ),
        worker_info=worker_info,
        goldens={name: golden.content for name, golden in golden_set.goldens.items()},
        equal=equal,
    )


def write_certificate(request: GateRequest, parity: ParityResult, *, commit: str | None) -> str:
    """Write the certificate if nothing differs; return one line about it.

    Goldens that were not recorded on a GPU so far, and whose very bytes this one yields, count as
    recorded on it from now on: their provenance changes in the same transaction. A commit that is
    None is read from git.

    Raises:
        ToolError: the folder cannot be written; nothing has changed.
    """
    if parity.verdict.verdict != "pass":
        return f"parity: {PARITY} not written: every scenario must equal its golden"
    stamp = sidecars.stamp_provenance(parity.worker_info, root=request.session.root, commit=commit)
    entry = CertificateEntry(
        scenarios=len(request.selection.names),
        differences=0,
        goldens_sha256=goldens_sha256(parity.goldens),
        device_name=stamp["device_name"],
        driver=stamp["driver"],
        cuda=stamp["cuda"],
        torch=stamp["torch"],
        python=stamp["python"],
        commit=stamp["commit"],
        dirty=is_dirty(request.session.root, excluding=request.folder)
        if commit is None and stamp["commit"]
        else None,
        date=stamp["date"],
    )
    known = sidecars.recorded_devices(request.folder)
    new = {name: stamp for name in parity.equal if known.get(name) != "cuda"}
    record = sidecars.render_provenance(request.folder, written=new, removed=())
    certificate = add_certificate_entry(request.folder, entry)
    with (
        require_writable_path(request.folder, expected="a writable directory"),
        Transaction() as transaction,
    ):
        transaction.write(request.folder / PARITY, certificate.encode())
        transaction.write(request.folder / PROVENANCE, record.encode())
        transaction.commit()
    return f"parity: {PARITY} written for {entry.device_name}"


def _gate_result(
    request: GateRequest, *, results: SideResults, golden_set: GoldenSet, equal: tuple[str, ...]
) -> GateResult:
    """Compare recordings with their goldens; one that cannot be read is no difference."""
    recordings, names = results.recordings, request.selection.names
    not_run = frozenset(names) - recordings.keys()
    judged = recordings.keys() - golden_set.problems.keys()
    causes = (
        *compare_sides(
            {name: of for name, of in golden_set.recordings.items() if name not in not_run},
            {name: of for name, of in recordings.items() if name in judged},
        ),
        *format_causes(golden_set, root=request.session.root),
    )
    explained = {name for cause in causes for name in cause.scenarios}
    return GateResult(
        head=recordings,
        unreadable=frozenset(golden_set.problems),
        causes=causes,
        obstacles=(*golden_set.problems.values(), *results.problems),
        faults=tuple(
            str(ToolError(name, "must equal its golden", expected="its bytes", got="others"))
            for name in names
            if name in judged and name not in equal and name not in explained
        ),
    )


def _equal_scenarios(results: SideResults, *, golden_set: GoldenSet) -> tuple[str, ...]:
    return tuple(
        name
        for name, text in results.texts.items()
        if name in golden_set.goldens and text == golden_set.goldens[name].content.decode()
    )
