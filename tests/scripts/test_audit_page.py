"""The tables of reviewed findings are generated."""

import msgspec
import pytest

from scripts.audit_page import MARKER, PAGE, read_reviews, render
from traces.audit.reviewed import FindingReview
from traces.schema.verdict import Kind

REVIEW = FindingReview(
    kind=Kind.STALE_AFTER_RESTORE,
    subject="build_*: device.KV",
    verdict="fault",
    reason="one | other",
    line="pool.py:7",
    releases=("0.5.22", "0.5.23"),
    evidence="slots 1 wrong; in a",
)


def test_committed_tables_are_what_the_reviews_give():
    text = PAGE.read_text("utf-8")
    assert text == render(text, read_reviews())


def test_a_fault_has_a_row_with_its_evidence():
    page = render(f"# Audit\n\n{MARKER}\nold\n", [REVIEW])
    row = (
        "| 0.5.22, 0.5.23 | `stale_after_restore` `build_*: device.KV` | one \\| other "
        "| slots 1 wrong; in a | `pool.py:7` |\n"
    )
    assert page.startswith(f"# Audit\n\n{MARKER}\n")
    assert row in page
    assert "old" not in page


def test_a_fault_with_several_rows_has_one_line():
    wiring = msgspec.structs.replace(
        REVIEW,
        kind=Kind.SIBLING_DISAGREEMENT,
        subject="build_* -> Host.width",
        reason="the wiring of the same rows",
        fault="one | other",
        releases=("0.5.21",),
        name="SGL-07",
        evidence="expected 656",
    )
    page = render(f"{MARKER}\n", [REVIEW, wiring])
    assert (
        "| 0.5.21, 0.5.22, 0.5.23 | SGL-07 `stale_after_restore` `build_*: device.KV`"
        "<br>`sibling_disagreement` `build_* -> Host.width` | one \\| other "
        "| slots 1 wrong; in a | `pool.py:7` |\n"
    ) in page
    assert "the wiring" not in page


def test_a_page_without_a_marker_is_refused():
    with pytest.raises(ValueError, match="must hold its marker"):
        render("# Audit\n", [REVIEW])


def test_every_review_says_where_the_release_shows_it():
    for review in read_reviews():
        assert review.reason
        assert review.line
        assert review.releases
        assert bool(review.evidence) is (review.verdict == "fault")
