"""The Goldens section: what declares a change, and how an entry is added."""

from tools.goldens.changelog import (
    add_changelog_entry,
    added_entries,
    declared_entries,
    shortest_patterns,
    undeclared_scenarios,
)

LOG = """# Changelog

## [Unreleased]

### Added
- nsa_bf16: this is a feature, not a golden.

### Goldens

- `nsa_fp8`, `mha_*`: indexer copy now precedes KV; the order
  was wrong before.
- swa_gemma3: window kept.

## [0.1.0] - 2026-01-01

### Goldens

- mamba_qwen3: first.
"""


def test_entry_names_scenarios_and_patterns_before_the_colon():
    first, second = declared_entries(LOG)
    assert first.patterns == ("nsa_fp8", "mha_*")
    assert first.reason == "indexer copy now precedes KV; the order was wrong before."
    assert second.patterns == ("swa_gemma3",)


def test_only_the_goldens_section_of_unreleased_declares():
    changed = ["nsa_fp8", "mha_llama3", "swa_gemma3", "nsa_bf16", "mamba_qwen3"]
    assert undeclared_scenarios(changed, declared_entries(LOG)) == ("mamba_qwen3", "nsa_bf16")


def test_names_are_matched_whole():
    assert undeclared_scenarios(["nsa_fp8_kernel"], declared_entries(LOG)) == ("nsa_fp8_kernel",)
    assert undeclared_scenarios(["mha_llama3_kernel"], declared_entries(LOG)) == ()


def test_entry_without_reason_declares_nothing():
    assert declared_entries("## Unreleased\n### Goldens\n- nsa_fp8\n- mha_llama3:\n") == ()
    assert len(declared_entries("## Unreleased\n### Goldens\n- nsa_fp8: why\n")) == 1


def test_old_entry_is_no_excuse_for_a_new_change():
    after = add_changelog_entry(LOG, names=["kv_mha"], reason="layers cut")
    assert [entry.patterns for entry in added_entries(LOG, after)] == [("kv_mha",)]
    assert added_entries(LOG, LOG) == ()


def test_same_entry_a_second_time_is_a_new_entry():
    once = add_changelog_entry(LOG, names=["kv_mha"], reason="layers cut")
    twice = add_changelog_entry(once, names=["kv_mha"], reason="layers cut")
    assert [entry.patterns for entry in added_entries(once, twice)] == [("kv_mha",)]


def test_entry_goes_to_the_end_of_the_section_and_touches_nothing_else():
    after = add_changelog_entry(LOG, names=["kv_mha", "kv_mla"], reason="layers\ncut")
    expected = LOG.replace(
        "- swa_gemma3: window kept.\n",
        "- swa_gemma3: window kept.\n- `kv_mha`, `kv_mla`: layers cut\n",
    )
    assert after == expected


def test_section_is_created_in_unreleased():
    log = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- x\n\n## [0.1.0]\n"
    assert add_changelog_entry(log, names=["a"], reason="why") == (
        "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- x\n\n### Goldens\n\n- `a`: why\n"
        "\n## [0.1.0]\n"
    )


def test_unreleased_is_created_above_the_last_release():
    log = "# Changelog\n\nText.\n\n## [0.1.0]\n\n- x\n"
    assert add_changelog_entry(log, names=["a"], reason="why") == (
        "# Changelog\n\nText.\n\n## [Unreleased]\n\n### Goldens\n\n- `a`: why\n"
        "\n## [0.1.0]\n\n- x\n"
    )


def test_empty_changelog_becomes_a_whole_one():
    assert add_changelog_entry("", names=["a"], reason="why") == (
        "# Changelog\n\n## [Unreleased]\n\n### Goldens\n\n- `a`: why\n"
    )


def test_long_entry_is_wrapped_and_read_back_whole():
    names = [f"scenario_number_{number}" for number in range(20)]
    text = add_changelog_entry("", names=names, reason="the same for all")
    assert max(map(len, text.splitlines())) <= 100
    [entry] = declared_entries(text)
    assert entry.patterns == tuple(names)
    assert entry.reason == "the same for all"


def test_heading_in_a_code_block_is_no_heading():
    log = "## Unreleased\n```\n### Goldens\n- a: b\n```\n"
    assert declared_entries(log) == ()


def test_entry_followed_by_another_section_keeps_an_empty_line_between():
    log = "## Unreleased\n### Goldens\n- a: b\n### Fixed\n- x\n"
    assert add_changelog_entry(log, names=["c"], reason="d") == (
        "## Unreleased\n### Goldens\n- a: b\n- `c`: d\n\n### Fixed\n- x\n"
    )


KNOWN = ["kv.mha.p1", "kv.mha.p16", "kv.mla.p1", "swa.mha.p1", "swa.gemma.p1", "swa.gemma.p16"]


def test_every_scenario_is_one_pattern():
    assert shortest_patterns(KNOWN, KNOWN) == ("*",)


def test_names_of_one_builder_are_one_pattern():
    assert shortest_patterns(KNOWN[3:], KNOWN) == ("swa.*",)


def test_names_of_one_model_under_several_builders_are_one_pattern():
    names = ["kv.mha.p1", "kv.mha.p16", "swa.mha.p1"]
    assert shortest_patterns(names, KNOWN) == ("*.mha.*",)


def test_few_names_are_listed_and_no_other_scenario_is_matched():
    assert shortest_patterns(["kv.mha.p1", "swa.gemma.p1"], KNOWN) == ("kv.mha.p1", "swa.gemma.p1")
