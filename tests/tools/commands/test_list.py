"""The ``list`` command and the parameters of builders, on this checkout."""

import json
from functools import partial
from pathlib import Path

import pytest

from tools.cli import run_command
from tools.errors import ToolError
from tools.session import open_session

ROOT = Path(__file__).resolve().parents[3]


def run_list(*arguments):
    run_command(["list", *arguments], open_session=partial(open_session, ROOT))


def test_every_parameter_that_assembles_a_stack_is_covered_or_has_a_reason(capsys):
    run_list("--parameters")
    lines = capsys.readouterr().out.splitlines()
    shown = lines[lines.index("HybridCacheController") :]

    assert [line for line in shown[:-1] if line and not line.startswith(" ")] == [
        "HybridCacheController",
        "attach_hybrid_nsa_pool_to_hiradix_cache",
        "attach_hybrid_pool_to_mamba_cache",
        "attach_hybrid_pool_to_unified_cache",
        "build_hybrid_mamba_stack",
        "build_hybrid_swa_stack",
        "build_kv_only_stack",
        "build_shared_anchor_stack",
    ]
    assert "  override_kv_cache_dim         distinctive" in shown
    assert shown[-1].startswith("126 parameters: 0 never set, 0 default only, 3 non-default,")
    short = [line.strip() for line in shown[:-1] if " non-default" in line]
    assert [line.split()[0] for line in short] == [
        "enable_storage_metrics",
        "use_mla",
        "shared_host_pool_factory",
    ]
    assert all(": " in line for line in short)


def test_parameters_as_json_have_their_values(capsys):
    run_list("--parameters", "--json")
    found = json.loads(capsys.readouterr().out)["parameters"]

    (width,) = [
        one
        for one in found
        if (one["callee"], one["parameter"]) == ("build_kv_only_stack", "override_kv_cache_dim")
    ]
    assert (width["state"], width["value"]) == ("distinctive", 576)


def test_parameters_of_a_package_are_refused():
    with pytest.raises(ToolError, match=r"^--target: must be our own code for this command"):
        run_list("--target", "sglang", "--side", "pypi:0.5.12", "--parameters")
