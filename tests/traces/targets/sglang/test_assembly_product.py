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

        monkeypatch.setattr(assembly_product, "assemble", assemble)
        monkeypatch.setattr(assembly_product, "flag_values", lambda _: ())
        monkeypatch.setattr(assembly_product, "_wiring_files", lambda: ())
        monkeypatch.setattr(assembly_product, "_sharded_pools", lambda _: iter(()))
        named = []
        script = AssemblyProduct(
            registry()["product.kv_only.mla"],
            ranks=SimpleNamespace(),
            device="cpu",
            name_pools=named.append,
        )
        for step in script.steps:
            script.run_step(step)
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
