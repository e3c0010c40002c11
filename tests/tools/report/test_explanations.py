"""Explanations of kinds."""

import tomllib
from pathlib import Path

import tools.report.explanations as module
from tools.report.explanations import explanations
from traces.schema.verdict import Kind


def test_every_kind_is_explained_in_whole_sentences():
    for kind, one in explanations().items():
        assert not one.title.endswith("."), kind
        assert one.meaning.endswith("."), kind
        assert one.usual.endswith("."), kind
        assert one.look.endswith("."), kind


def test_no_explanation_is_of_a_kind_that_does_not_exist():
    table = tomllib.loads(Path(module.__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    assert list(table) == list(Kind)


def test_text_names_the_kind_first():
    text = explanations()[Kind.ORDER_EDGE_REMOVED].as_text(Kind.ORDER_EDGE_REMOVED)
    assert text.splitlines()[0] == "order_edge_removed: Lost ordering between streams"
