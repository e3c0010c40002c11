from pathlib import Path

import msgspec
import pytest

from scripts import gpu_parity
from traces.pytest.golden_files import golden_path
from traces.schema.canonical import render
from traces.schema.model import SCHEMA, Outcome, Reading, RoundTrip, ScenarioRecord, Trace


def write(folder: Path, name: str, *, equal: bool, reader: str = "") -> None:
    folder.mkdir(exist_ok=True)
    trace = Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(name=name, config={}),
        calls=(),
        tensors=(),
        events=(),
        digests=(
            RoundTrip(
                step="reload", pool="KV", plane="", equal=equal, wrong_slots="", foreign_slots=""
            ),
        ),
        outcome=Outcome(ok=True, failed_step="", failure=None),
    )
    if reader:
        read = Reading(
            step="reload",
            pool="KV",
            accessor=reader,
            stream=f"read.{reader}",
            waited=True,
            equal=equal,
        )
        trace = msgspec.structs.replace(trace, digests=(*trace.digests, read))
    golden_path(folder, name).write_text(render(trace))


def test_totals_and_reasons_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim, real = tmp_path / "sim", tmp_path / "real"
    for name in ("same", "triton", "other"):
        write(sim, name, equal=True)
    write(real, "same", equal=True)
    write(real, "triton", equal=True, reader="get_index_k_continuous")
    write(real, "other", equal=False)
    assert gpu_parity.main([str(sim), str(real)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "3 scenarios: 2 equal (1 in every byte), 1 different, 0 not comparable",
        "different:",
        "  other",
        "accessors that launch Triton kernels hand out nothing in simulation:",
        "  triton",
    ]


def test_equal_traces_are_a_success(tmp_path: Path) -> None:
    write(tmp_path / "sim", "same", equal=True)
    write(tmp_path / "sim", "more", equal=True)
    write(tmp_path / "real", "same", equal=True)
    assert gpu_parity.main([str(tmp_path / "sim"), str(tmp_path / "real")]) == 0


def test_trace_that_the_simulation_lacks_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "sim", "same", equal=True)
    write(tmp_path / "real", "new", equal=True)
    assert gpu_parity.main([str(tmp_path / "sim"), str(tmp_path / "real")]) == 2
    assert "must hold every trace; expected new, got none" in capsys.readouterr().err
