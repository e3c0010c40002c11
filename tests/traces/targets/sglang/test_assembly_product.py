"""Many assemblies in one scenario: refusals are told; a release that lacks everything is named."""

from types import SimpleNamespace

import pytest

from traces.targets.sglang import assembly_product
from traces.targets.sglang.assembly_product import AssemblyProduct
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.registry import registry


@pytest.fixture
def run(monkeypatch):
    """Runs all steps with an assembly that raises what it is given for a row, and no flags."""

    def run(make_error):
        def assemble(row, *, ranks, device, flags):
            error = make_error(row)
            if error is not None:
                raise error
            return row

        monkeypatch.setattr(assembly_product, "assemble", assemble)
        monkeypatch.setattr(assembly_product, "stack_facts", lambda _row, *, step: iter((step,)))
        monkeypatch.setattr(assembly_product, "flag_values", lambda _: ())
        monkeypatch.setattr(assembly_product, "_wiring_files", lambda: ())
        monkeypatch.setattr(assembly_product, "_other_pools", lambda _: iter(()))
        named = []
        script = AssemblyProduct(
            registry()["product.kv_only.mla"],
            ranks=SimpleNamespace(),
            device="cpu",
            name_pools=named.append,
        )
        for step in script.steps:
            assert list(script.run_step(step)) in ([step], [])
        assert tuple(named) == script.steps
        return script.take_notes()

    return run


def test_what_is_refused_is_told_with_its_text_and_the_rest_is_assembled(run):
    notes = run(lambda row: ValueError("too\n  wide") if row.draft == "packed" else None)
    assert len(notes) == sum(
        row.draft == "packed" for row in registry()["product.kv_only.mla"].rows()
    )
    assert {note.text.rpartition(": ")[2] for note in notes} == {"too wide"}
    assert all(note.text.startswith("refused: ") for note in notes)


def test_nothing_is_told_where_everything_is_assembled(run):
    assert run(lambda _: None) == []


def test_a_release_that_lacks_something_and_assembles_nothing_is_said_to_lack_it(run):
    with pytest.raises(UnsupportedByRelease, match="no such builder"):
        run(
            lambda row: (
                ValueError("first")
                if row.draft == "packed"
                else UnsupportedByRelease("no such builder")
            )
        )


def test_a_release_that_refuses_everything_is_recorded(run):
    notes = run(lambda _: ValueError("never"))
    assert {note.text.rpartition(": ")[2] for note in notes} == {"never"}


class _Pool:
    def __init__(self, size, dtype=None): ...


class _Alike(_Pool):
    def __init__(self, **sizes): ...


class _Unnamed(_Pool): ...


class _OfBuffer(_Pool):
    def __init__(self, *, buffer): ...


class _Sharded(_Pool):
    def __init__(self, size, shard_rank, shard_size): ...


def test_other_classes_are_those_that_builders_name_and_the_sharded_ones(monkeypatch, tmp_path):
    builder = tmp_path / "builder.py"
    names = "_Alike, _OfBuffer"
    builder.write_text(
        f"from pools import {names}\ndef build(pool): return isinstance(pool, ({names}))\n"
    )
    pools = (_Pool, _Alike, _Unnamed, _OfBuffer, _Sharded)
    release = SimpleNamespace(
        find=lambda *names: _Pool if "DSATokenToKVPool" in names else None,
        device_pools=lambda: pools,
    )
    monkeypatch.setattr(assembly_product, "installed_release", lambda: release)
    monkeypatch.setattr(assembly_product, "_wiring_files", lambda: (builder,))
    found = list(assembly_product._other_pools("DSATokenToKVPool"))
    assert found == ["_Alike", "_Sharded"]


@pytest.fixture
def refusing_linker(monkeypatch):
    """A script of a tree whose pools a linker refuses, all or those beside a draft; its notes."""

    def run(refuses):
        shown = []

        class Linker:
            def __init__(self, row, *, name):
                if refuses(row):
                    raise ValueError("not these")
                shown.append(name)

            def answers(self):
                return iter(())

        monkeypatch.setattr(assembly_product, "prepare_entry", lambda row, **_: row)
        monkeypatch.setattr(assembly_product, "LinkerPools", Linker)
        monkeypatch.setattr(assembly_product, "group_function", lambda: print)
        monkeypatch.setattr(assembly_product, "flag_values", lambda _: ())
        monkeypatch.setattr(assembly_product, "_wiring_files", lambda: ())
        monkeypatch.setattr(assembly_product, "_other_pools", lambda _: iter(()))
        script = AssemblyProduct(
            registry()["product.unified.dsa"],
            ranks=SimpleNamespace(),
            device="cpu",
            name_pools=lambda _: None,
        )
        assert list(script.run_step("linker")) == []
        return shown, [note.text for note in script.take_notes()]

    return run


def test_a_linker_that_refuses_the_target_is_not_shown_its_drafts(refusing_linker):
    shown, notes = refusing_linker(lambda _: True)
    assert shown == []
    assert notes == ["refused: linker.dsv32_fp8: ValueError: not these"]


def test_a_linker_that_refuses_one_draft_is_shown_the_others(refusing_linker):
    shown, notes = refusing_linker(lambda row: row.draft == "packed")
    assert shown == ["linker.dsv32_fp8", "linker.dsv32_fp8.sidecar_draft"]
    assert notes == ["refused: linker.dsv32_fp8.packed_draft: ValueError: not these"]


def test_models_that_no_entry_point_has_a_scenario_for_are_assembled_beside_the_rows():
    tree, plain = registry()["product.unified.linear_swa"], registry()["product.unified.linear"]
    rows = tree.further_rows(tree.rows()[0])
    assert [(row.model, row.step) for row in rows] == [
        ("inkling_tail", "inkling_tail"),
        ("inkling_tail", "inkling_tail.packed"),
    ]
    assert plain.further_rows(plain.rows()[0]) == []


def test_windows_that_keep_every_token_are_drafts_of_windowed_models_alone():
    def pools(name):
        return {row.draft_pool for row in registry()[name].rows() if row.draft == "packed"}

    assert "full_windows" in pools("product.unified.linear_swa")
    assert "full_windows" in pools("product.swa.swa")
    assert "full_windows" not in pools("product.unified.linear")
