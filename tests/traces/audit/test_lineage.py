"""Where arguments come from, and when that changes."""

import pytest

from traces.audit.lineage import changed_sources, lineage_of


@pytest.fixture
def play(made):
    """Scenarios of one entry that makes a controller: arguments of entry and controller."""

    def make(*scenarios, config=({},)):
        recordings = {}
        for number, (entry, given) in enumerate(scenarios):
            name = f"s{number}"
            recordings[name] = made.recording(
                name,
                made.call("build_kv_only_stack#1", entry, role="builder"),
                made.call("Controller#1", given, parent="build_kv_only_stack#1", line=30),
                config=config[number % len(config)],
            )
        return recordings

    return make


ENTRY = "build_kv_only_stack"


def test_a_field_that_agrees_in_all_scenarios_is_the_source(play):
    recordings = play(({"threshold": 771}, {"limit": 771}), ({"threshold": 512}, {"limit": 512}))
    assert lineage_of(recordings) == {"Controller.limit": {ENTRY: ("entry.threshold",)}}


def test_a_field_that_agrees_once_is_not(play):
    recordings = play(({"threshold": 771}, {"limit": 771}), ({"threshold": 512}, {"limit": 256}))
    assert lineage_of(recordings) == {"Controller.limit": {ENTRY: ("computed",)}}


def test_the_configuration_is_a_field(play):
    recordings = play(({}, {"layout": "page_first"}), config=({"layout": "page_first"},))
    assert lineage_of(recordings)["Controller.layout"] == {ENTRY: ("config.layout",)}


def test_a_value_that_never_changes_and_no_field_has_is_a_constant(play):
    recordings = play(({"a": 1}, {"limit": 256}), ({"a": 2}, {"limit": 256}))
    assert lineage_of(recordings) == {"Controller.limit": {ENTRY: ("constant 256",)}}


def test_flags_tell_nothing_about_their_source(play):
    recordings = play(({"metrics": True}, {"enable": True}))
    assert lineage_of(recordings) == {"Controller.enable": {ENTRY: ("constant true",)}}


def test_a_change_of_source_is_a_finding_with_its_line(play):
    before = play(({"threshold": 771}, {"limit": 771}), ({"threshold": 512}, {"limit": 512}))
    after = play(({"threshold": 771}, {"limit": 256}), ({"threshold": 512}, {"limit": 256}))
    [found] = changed_sources(after, recorded=lineage_of(before))
    assert str(found.kind) == "argument_changed"
    assert found.where == "build_kv_only_stack: Controller.limit"
    assert (found.before, found.after) == (["entry.threshold"], ["constant 256"])
    assert (found.location.file, found.location.line) == ("assembler/stacks.py", 30)
    assert found.message == (
        "limit of Controller came from entry.threshold; now it is constant 256."
    )
    assert found.scenarios == ("s0", "s1")


def test_an_unchanged_source_is_none(play):
    recordings = play(({"threshold": 771}, {"limit": 771}))
    assert changed_sources(recordings, recorded=lineage_of(recordings)) == ()


def test_a_field_that_was_equal_by_chance_may_stop_being_so(play):
    chance = play(({"threshold": 771, "width": 771}, {"limit": 771}))
    now = play(({"threshold": 771, "width": 656}, {"limit": 771}))
    assert changed_sources(now, recorded=lineage_of(chance)) == ()


def test_what_is_not_on_file_is_not_judged(play):
    assert changed_sources(play(({"threshold": 771}, {"limit": 771})), recorded={}) == ()
