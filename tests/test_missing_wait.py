"""End to end: a missing wait is found by random traffic, kept, and replayed until it is back."""

import json

BUILDER = "build_kv_only_stack"
FILE = "assembler/controller/hybrid.py"
WAIT = "                self.write_stream.wait_event(start)\n"
NEXT = """\
                placed = self._copier.place(operation)
                self._copier.backup(placed)
"""


def explore(checkout, *arguments):
    return checkout.run("-m", "tools.cli", "explore", *arguments)


def broken(checkout):
    checkout.replace(FILE, WAIT + NEXT, NEXT)
    return ("--runs", "12", "--builder", BUILDER, "--out", str(checkout.root / "replays"))


def test_same_seed_is_byte_identical_under_another_hash_seed(checkout, monkeypatch):
    arguments = broken(checkout)
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    one = explore(checkout, *arguments)
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    other = explore(checkout, *arguments)

    assert one.returncode == other.returncode == 1
    assert one.stdout == other.stdout
    assert one.stdout.count("violated: conflicting accesses are ordered") == 1


def test_violation_is_kept_and_replayed_until_the_bug_is_gone(checkout):
    found = explore(checkout, *broken(checkout), "--json")
    listing = json.loads(found.stdout)
    [violation] = listing["violations"]
    file = violation["replay"]

    assert found.returncode == 1
    assert listing["schema"] == "goldentrace.exploration/1"
    assert violation["builder"] == BUILDER
    assert violation["steps"] == 2
    red = explore(checkout, "--replay", file)
    assert red.returncode == 1
    assert "missing: stream write must wait for an event recorded on stream default" in red.stdout
    assert "assembler/controller/hybrid.py:" in red.stdout

    checkout.replace(FILE, NEXT, WAIT + NEXT)
    green = explore(checkout, "--replay", file)
    assert (green.returncode, green.stdout.split(": ")[1]) == (0, "2 steps, no violation\n")
