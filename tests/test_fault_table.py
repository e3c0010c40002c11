"""The table of faults in docs/storage_tier.md: every row names a test that there is."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (?P<fault>[^|]+) \| [^|]+ \| `(?P<test>test_\w+)` \|$", re.MULTILINE)


def test_every_fault_has_a_test_that_there_is():
    rows = ROW.findall((ROOT / "docs/storage_tier.md").read_text())
    texts = [file.read_text() for file in (ROOT / "tests").rglob("test_*.py")]
    defined = {name for text in texts for name in re.findall(r"^def (test_\w+)\(", text, re.M)}

    assert len(rows) == 16
    assert [test for _, test in rows if test not in defined] == []
