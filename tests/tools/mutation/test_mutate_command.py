"""What ``goldentrace mutate`` refuses, and what it mutates."""

from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest

from tools.cli import run_command
from tools.errors import ToolError
from tools.mutation.run import MutationRequest
from tools.mutation.scopes import DEVICES, scope_of
from tools.session import open_session

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--operator", "drop_all"), r"^--operator: must be known; expected drop_keyword, "),
        (("--format", "html"), r"^--format: must be known; expected text, json, markdown"),
        (("--device", "tpu"), r"^--device: must be known"),
        (("--file", "nothing/"), r"^mutants: must be made; expected at least one, got 0"),
        (
            ("--operator", "generic"),
            r"^--operator: generic ones, judged as the gate does, must be al",
        ),
        (("--target", "sglang"), r"^--side: must be given for target sglang"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ToolError, match=message):
        run_command(
            ["mutate", "--operator", "drop_edge", *arguments],
            open_session=partial(open_session, ROOT),
        )


def test_files_named_one_after_the_other_are_all_mutated():
    every = {field.name: None for field in fields(MutationRequest)}
    one, two, none = (
        MutationRequest(**every | {"file_parts": parts})
        for parts in (("cache/",), ("cache/", "host_pools/mla"), ())
    )

    files = ["assembler/cache/tree.py", "assembler/host_pools/mla.py", "assembler/geometry.py"]
    assert [one.takes(file) for file in files] == [True, False, False]
    assert [two.takes(file) for file in files] == [True, True, False]
    assert [none.takes(file) for file in files] == [True, True, True]


def test_guards_and_what_needs_a_gpu_are_left_alone():
    files = scope_of("native", ROOT).files
    assert "assembler/stacks/shared_anchor.py" in files
    assert not {"assembler/validation.py", "assembler/device/cuda.py"} & set(files)


def test_tree_without_the_target_is_refused(tmp_path):
    with pytest.raises(ToolError, match="must hold the target"):
        scope_of("native", tmp_path)


def test_native_mutants_run_eagerly_unless_a_device_is_named():
    assert DEVICES["native"] == "cpu"


def test_validation_is_mutated_where_it_stays_enabled():
    files = scope_of("native", ROOT, is_generic=True).files
    assert "assembler/validation.py" in files
    assert "assembler/device/cuda.py" not in files
