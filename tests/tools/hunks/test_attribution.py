"""Causes of a whole comparison of our own code, each with the hunks that make it."""

import shutil
from pathlib import Path

import msgspec
import pytest

from tools.hunks.attribution import HunkSides, attribute_to_hunks, choose_scenarios
from tools.hunks.variants import variant_pool
from tools.hunks.worker import RunVariant
from tools.workers.launch import WorkerLauncher
from traces.diff import compare_sides
from traces.schema.model import Recording
from traces.schema.verdict import Kind
from traces.targets.native.scenarios import registry

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = "kv_only.dsv3.page_first.kernel.wt.p1.ratio.tp8pp2.file"
LIMIT_SECONDS = 60.0

LARGER = (
    "assembler/stacks/parts.py",
    "host_to_device_ratio=server_args.hicache_ratio,",
    "host_to_device_ratio=server_args.hicache_ratio + 1,",
)
NO_WAIT = (
    "assembler/controller/hybrid.py",
    "                self.write_stream.wait_event(start)\n",
    "",
)
RENAMED_LOCAL = (
    (
        "assembler/stacks/parts.py",
        "    arguments = host_pool_arguments(server_args, page_size=page_size, device=kv_pool",
        "    sizing = host_pool_arguments(server_args, page_size=page_size, device=kv_pool",
    ),
    (
        "assembler/stacks/parts.py",
        "return kv_pool.make_host_pool(arguments, override",
        "return kv_pool.make_host_pool(sizing, override",
    ),
)


def launcher(root):
    return WorkerLauncher(worker_class="tools.hunks.worker:NativeVariantWorker", root=root)


def recordings_of(root):
    task = RunVariant(texts={}, scenarios=(registry()[SCENARIO],), device="cpu")
    with variant_pool(launcher(root), limit_seconds=LIMIT_SECONDS) as pool:
        found = pool.call(task)
    return {name: msgspec.msgpack.decode(one, type=Recording) for name, one in found.items()}


@pytest.fixture
def compared(tmp_path):
    """Return a function that compares a copy of our own code with changes, and finds hunks."""

    def found(*changes, seconds=300.0):
        sides = []
        for name, edits in (("base", ()), ("head", changes)):
            root = tmp_path / name
            hidden = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "assembler", root / "assembler", ignore=hidden)
            for file, old, new in edits:
                text = (root / file).read_text()
                assert old in text
                (root / file).write_text(text.replace(old, new))
            sides.append(root)
        recordings = tuple(map(recordings_of, sides))
        causes = compare_sides(*recordings)
        return causes, *attribute_to_hunks(
            causes,
            HunkSides(
                target="native",
                base=launcher(sides[0]),
                head=launcher(sides[1]),
                recordings=recordings,
                scenarios=registry(),
                device="cpu",
                seconds=seconds,
                limit_seconds=LIMIT_SECONDS,
            ),
        )

    return found


def made_by(cause):
    return [(hunk.file, hunk.before, hunk.after) for hunk in cause.made_by]


@pytest.mark.slow
def test_each_cause_has_its_own_hunk_and_a_rename_has_none(compared):
    _, causes, notes = compared(LARGER, NO_WAIT, *RENAMED_LOCAL)

    told = {(cause.kind, cause.parameter or cause.callee): made_by(cause) for cause in causes}
    assert told[Kind.ARGUMENT_CHANGED, "host_to_device_ratio"] == [
        (
            "assembler/stacks/parts.py",
            ("        host_to_device_ratio=server_args.hicache_ratio,",),
            ("        host_to_device_ratio=server_args.hicache_ratio + 1,",),
        )
    ]
    edges = [hunks for (kind, _), hunks in told.items() if kind is Kind.ORDER_EDGE_REMOVED]
    assert edges == [
        [
            (
                "assembler/controller/hybrid.py",
                ("                self.write_stream.wait_event(start)",),
                (),
            )
        ]
    ]
    [ratio] = [cause for cause in causes if cause.parameter == "host_to_device_ratio"]
    shown = {one.kind for one in ratio.consequences}
    assert Kind.SHAPE_CHANGED in shown
    assert Kind.ORDER_EDGE_REMOVED not in shown
    assert notes[0].startswith("4 of 4 hunks were executed; ")


@pytest.mark.slow
def test_new_parameter_is_reverted_with_its_use_in_a_process_of_its_own(compared):
    parts = "assembler/stacks/parts.py"
    signature = (
        parts,
        "*, page_size: int, device: Device\n",
        "*, page_size: int, device: Device, more: int = 1\n",
    )
    use = (parts, LARGER[1], "host_to_device_ratio=server_args.hicache_ratio + more,")
    _, causes, notes = compared(signature, use)

    [cause] = [one for one in causes if one.parameter == "host_to_device_ratio"]
    assert [after for _, _, after in made_by(cause)] == [
        ("    server_args: ServerArgs, *, page_size: int, device: Device, more: int = 1",),
        ("        host_to_device_ratio=server_args.hicache_ratio + more,",),
    ]
    assert notes == ("2 of 2 hunks were executed; 1 run without some of them",)


@pytest.mark.slow
def test_search_without_time_leaves_causes_and_says_so(compared):
    before, causes, notes = compared(LARGER, seconds=0.001)

    assert causes == before
    assert "the search for hunks ended after 0.001 s; --attribute-time gives it more" in notes
    assert any(note.startswith("no hunk was found for 1 cause: ") for note in notes)


def test_nothing_is_run_where_nothing_differs():
    sides = HunkSides(
        target="native",
        base=launcher(Path("none")),
        head=launcher(Path("none")),
        recordings=({}, {}),
        scenarios={},
        device="cpu",
        seconds=1.0,
        limit_seconds=1.0,
    )
    assert attribute_to_hunks((), sides) == ((), ())
    assert choose_scenarios((), ({}, {})) == ()
