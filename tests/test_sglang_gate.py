"""The gate on released packages: the fault that started it all, found without a GPU.

Needs the environments of two releases, which are downloaded once (`make sglang`), so these tests
run only when they are asked for by GOLDENTRACE_SGLANG=1.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.releases import NEEDS_RELEASES, copy_release, gate
from tools.cli import main
from tools.sides.environments.cache import environment_for
from traces.schema.canonical import parse
from traces.schema.model import RoundTrip

pytestmark = NEEDS_RELEASES

KERNEL = "hiradix_dsa.dsv32_fp8.layer_first.kernel.wb.p64.gb.tp8cp2pp3"
DIRECT = "hiradix_init.dsv32_fp8.layer_first.direct.wts.p64.gb.tp8cp2"
CONTROL = "hiradix_dsa.dsv32_bf16.layer_first.direct.wt.p64.ratio.tp4cp4pp5"
SWA = "swa.gpt_oss.page_first_direct.direct.wts.p16.ratio.tp4cp4pp5"
ASSEMBLER = "sglang/srt/mem_cache/hybrid_cache/hybrid_pool_assembler.py"


def assert_names_the_dropped_override(code, verdict):
    first = verdict["causes"][0]
    assert code == 1
    assert (first["kind"], first["parameter"]) == ("argument_dropped", "override_kv_cache_dim")
    assert (first["before"], first["after"]) == (656, None)
    assert first["callee"] == "MLATokenToKVPoolHost"
    assert first["location"] == {"file": ASSEMBLER, "line": 444}
    told = {(one["kind"], one["where"]): one for one in first["consequences"]}
    shape = told["shape_changed", "host.KV.kv_buffer"]
    assert (shape["before"][-1], shape["after"][-1]) == (656, 576)
    assert any(
        one["kind"] == "outcome_changed"
        and "The size of tensor a (576) must match the size of tensor b (656)" in str(one["after"])
        for one in first["consequences"]
    )
    corrupt = told["digest_changed", "round trip KV.kv_buffer in reload"]["after"]
    assert corrupt["equal"] is False
    assert corrupt["wrong_slots"]
    assert corrupt["foreign_slots"]


def test_dropped_override_is_the_first_cause_with_its_line_and_its_damage(capsys):
    code, verdict = gate(capsys, "pypi:0.5.12", "pypi:0.5.11", KERNEL, DIRECT)

    assert_names_the_dropped_override(code, verdict)


def test_control_whose_rows_need_no_override_keeps_its_shapes_and_its_bytes(capsys, tmp_path):
    """In bf16 a row is 576 elements with and without the override."""
    _, verdict = gate(capsys, "pypi:0.5.12", "pypi:0.5.11", CONTROL)

    told = [
        {"kind": one["kind"], "where": one["where"]}
        for cause in verdict["causes"]
        for one in (cause, *cause["consequences"])
    ]
    assert verdict["scenarios"]["played"] == 1
    assert [one for one in told if one["kind"] == "shape_changed"] == []
    assert [one for one in told if one["where"].startswith("round trip")] == []
    for version in ("0.5.11", "0.5.12"):
        trips = round_trips(f"pypi:{version}", CONTROL, folder=tmp_path / version)
        assert ("KV", "kv_buffer") in {(trip.pool, trip.plane) for trip in trips}
        assert [trip for trip in trips if not trip.equal] == []


def test_the_other_way_round_the_override_was_added(capsys):
    code, verdict = gate(capsys, "pypi:0.5.11", "pypi:0.5.12", KERNEL)

    first = verdict["causes"][0]
    assert code == 1
    assert (first["kind"], first["parameter"]) == ("argument_added", "override_kv_cache_dim")
    assert (first["before"], first["after"]) == (None, 656)


def test_release_against_itself_shows_nothing(capsys):
    code, verdict = gate(capsys, "pypi:0.5.12", "pypi:0.5.12", KERNEL, DIRECT, CONTROL)

    assert code == 0
    assert verdict["causes"] == []
    assert verdict["scenarios"]["played"] == 3


def test_source_trees_are_judged_like_the_releases_they_were_unpacked_from(capsys, tmp_path):
    base, head = copy_release("0.5.12", tmp_path), copy_release("0.5.11", tmp_path)

    code, verdict = gate(capsys, f"dir:{base}", f"dir:{head}", KERNEL, DIRECT)

    assert_names_the_dropped_override(code, verdict)


CONFIGURATOR = "sglang/srt/mem_cache/kv_cache_configurator.py"
CONFIGURED = "configurator.dsv3_mha.page_first.kernel.wts.p16.ratio.tp8cp2pp3"
LOST = {
    "v_head_dim": ("            v_head_dim=self.model_config.v_head_dim,\n", (128, None)),
    "enable_memory_saver": (
        "            enable_memory_saver=get_exec().features.enable_memory_saver,\n",
        (False, None),
    ),
    "start_layer": ("            start_layer=self.layer_info.start_layer,\n", (3, None)),
}


@pytest.mark.parametrize("parameter", LOST)
def test_a_value_lost_between_the_server_and_a_pool_is_named_with_its_line(
    capsys, tmp_path, parameter
):
    line, (before, after) = LOST[parameter]
    tree = copy_release("0.5.23", tmp_path)
    text = (tree / CONFIGURATOR).read_text()
    start = text.index("def _build_mha_kv_pool(")
    call = text[: text.index("token_to_kv_pool = pool_cls(", start)].count("\n") + 1
    (tree / CONFIGURATOR).write_text(text[:start] + text[start:].replace(line, "", 1))

    code, verdict = gate(capsys, "pypi:0.5.23", f"dir:{tree}", CONFIGURED)

    first = verdict["causes"][0]
    assert code == 1
    assert (first["kind"], first["parameter"]) == ("argument_dropped", parameter)
    assert (first["callee"], first["before"], first["after"]) == (
        "MHATokenToKVPool",
        before,
        after,
    )
    assert first["location"] == {"file": CONFIGURATOR, "line": call}


TREE = "sglang/srt/mem_cache/unified_radix_cache.py"


def test_a_reduction_in_the_wrong_process_group_is_named_with_its_line(capsys, tmp_path):
    tree = copy_release("0.5.23", tmp_path)
    text = (tree / TREE).read_text()
    right, wrong = "(self.attn_cp_group, self.attn_tp_group)", "(self.tp_group, self.attn_tp_group)"
    assert text.count(right) == 1
    (tree / TREE).write_text(text.replace(right, wrong))

    code, verdict = gate(
        capsys,
        "pypi:0.5.23",
        f"dir:{tree}",
        "unified.dsv3.page_first_direct.direct.wb.p64.gb.tp8cp2pp3",
    )

    first = verdict["causes"][0]
    assert code == 1
    assert (first["kind"], first["callee"], first["parameter"]) == (
        "argument_changed",
        "all_reduce",
        "group",
    )
    assert (first["before"]["group"], first["after"]["group"]) == ("attn_cp", "tp")
    assert first["location"] == {"file": TREE, "line": text[: text.index(right)].count("\n") + 1}
    assert first["consequences"][0]["kind"] == "collective_changed"


LOST_IN_STACKS = {
    "mtp_draft_device_pools": (
        "product.kv_only.mla",
        "        mtp_draft_device_pools=params.mtp_draft_device_pools,\n",
        "        mtp_draft_device_pools=(),\n",
        "argument_changed",
    ),
    "layer_shard_enabled": (
        "product.unified.dsa",
        "            layer_shard_enabled=kv_pool.layer_shard_enabled,\n",
        "",
        "argument_dropped",
    ),
    "host_memory_mode": (
        "product.kv_only.mla",
        "        host_memory_mode=get_memory().hicache_host_memory_mode,\n",
        "",
        "argument_dropped",
    ),
}


@pytest.mark.parametrize("parameter", LOST_IN_STACKS)
def test_a_draft_a_layer_split_and_a_flag_lost_in_a_stack_are_named(capsys, tmp_path, parameter):
    scenario, old, new, kind = LOST_IN_STACKS[parameter]
    tree = copy_release("0.5.23", tmp_path)
    text = (tree / ASSEMBLER).read_text()
    (tree / ASSEMBLER).write_text(text.replace(old, new, 1))

    code, verdict = gate(capsys, "pypi:0.5.23", f"dir:{tree}", scenario)

    first = verdict["causes"][0]
    assert code == 1
    assert (first["kind"], first["parameter"]) == (kind, parameter)
    assert first["location"]["file"] == ASSEMBLER


def test_a_refusal_that_another_one_replaces_is_told_with_both_texts(capsys, tmp_path):
    """Without the refusal of the pool, the release's check of its staging buffers refuses."""
    tree = copy_release("0.5.23", tmp_path)
    file = tree / "sglang/srt/mem_cache/pool_host/mha_mxfp8.py"
    text = file.read_text()
    assert text.count("        if draft_buffer_infos:\n            raise") == 1
    file.write_text(
        text.replace("if draft_buffer_infos:\n            raise", "if False:\n            raise")
    )

    code, verdict = gate(capsys, "pypi:0.5.23", f"dir:{tree}", "product.unified.mxfp8")

    told = [
        (one["before"], one["after"])
        for cause in verdict["causes"]
        for one in (cause, *cause["consequences"])
        if one["kind"] == "outcome_changed"
    ]
    refusal = "NotImplementedError: MXFP8 KV host pool does not pack MTP draft KV layers."
    assert code == 1
    assert (refusal, "ValueError: HiCache staging geometry changed after preparation") in told


def test_pools_that_the_same_tree_makes_are_the_same(capsys, tmp_path):
    tree = copy_release("0.5.23", tmp_path)
    code, verdict = gate(capsys, "pypi:0.5.23", f"dir:{tree}", CONFIGURED)
    assert (code, verdict["causes"], verdict["scenarios"]["played"]) == (0, [], 1)


def test_revisions_of_a_repository_are_judged_like_the_releases_they_hold(capsys, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch=main")
    for version in ("0.5.12", "0.5.11"):
        shutil.rmtree(repository / "python", ignore_errors=True)
        shutil.copytree(
            copy_release(version, tmp_path) / "sglang", repository / "python" / "sglang"
        )
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", "--message", version)

    code, verdict = gate(
        capsys, f"git:{repository}@HEAD~1", f"git:{repository}@HEAD", KERNEL, DIRECT
    )

    first = verdict["causes"][0]
    assert code == 1
    assert (first["kind"], first["parameter"]) == ("argument_dropped", "override_kv_cache_dim")
    assert first["location"]["file"].endswith("hybrid_pool_assembler.py")
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def round_trips(side: str, scenario: str, *, folder: Path) -> list[RoundTrip]:
    """Record a scenario of a side and return what its round trips brought back."""
    given = ("--target", "sglang", "--side", side, "--out", str(folder))
    assert main(["record", scenario, *given]) == 0
    trace = parse((folder / f"{scenario}.json").read_text("utf-8"), subject=scenario)
    return [digest for digest in trace.digests if isinstance(digest, RoundTrip)]


def git(repository: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", *identity, *arguments]
    done = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True)
    return done.stdout


EDITS = {
    "hybrid_cache_controller.py": (("            start_event.wait(self.write_stream)\n", ""),),
    "hybrid_pool_assembler.py": (
        ("        server_args.hicache_ratio,\n", "        server_args.hicache_ratio + 1,\n"),
        (
            "=swa_layer_mapping,\n            transfer_layer_num=transfer_layer_num,\n",
            "=swa_layer_mapping,\n            transfer_layer_num=1,\n",
        ),
        # Harmless: a parameter and its callers have another name.
        ("is_anchor", "is_primary"),
    ),
}
HUNKS = {
    "host_to_device_ratio": ["        server_args.hicache_ratio + 1,"],
    "transfer_layer_num": ["            transfer_layer_num=1,"],
}


def test_each_consequence_stands_under_the_cause_of_its_own_hunk(capsys, tmp_path):
    """Three faults and a rename in a copy of 0.5.12, in one scenario with two pools."""
    folder = tmp_path / "sglang" / "srt" / "mem_cache" / "hybrid_cache"
    shutil.copytree(environment_for("0.5.12").root / "sglang", tmp_path / "sglang")
    for name, edits in EDITS.items():
        text = (folder / name).read_text()
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text)

    code = main(
        [
            *("gate", "--target", "sglang", "--base", "pypi:0.5.12", "--head", f"dir:{tmp_path}"),
            *("--attribute", "--attribute-time", "400", "--format", "json", SWA),
        ]
    )
    verdict = json.loads(capsys.readouterr().out)
    causes = {(one["kind"], one["parameter"]): one for one in verdict["causes"]}
    made = {key: [hunk["after"] for hunk in one["made_by"]] for key, one in causes.items()}

    assert code == 1
    assert made["argument_changed", "host_to_device_ratio"] == [HUNKS["host_to_device_ratio"]]
    [edge] = [one for one in verdict["causes"] if one["kind"] == "order_edge_removed"]
    assert [hunk["before"] for hunk in edge["made_by"]] == [
        ["            start_event.wait(self.write_stream)"]
    ]
    shown = {key: {one["kind"] for one in found["consequences"]} for key, found in causes.items()}
    assert "shape_changed" in shown["argument_changed", "host_to_device_ratio"]
    lost = [key for key, kinds in shown.items() if "transfer_removed" in kinds]
    lost += [key for key in causes if key[0] == "transfer_removed"]
    assert lost
    assert all(made[key][0] == HUNKS["transfer_layer_num"] for key in lost)
    # One race comes with the lost wait; another goes with the layer that is no longer loaded.
    races = [
        (key, str(one["before"] or one["after"]), one["after"] is not None)
        for key, found in causes.items()
        for one in found["consequences"]
        if one["where"].startswith("race")
    ]
    edge_key = (edge["kind"], edge["parameter"])
    assert [key for key, _, comes in races if comes] == [edge_key]
    assert [key for key, text, _ in races if "SWA.k_buffer[1]" in text] == [
        ("argument_changed", "transfer_layer_id_max")
    ]
