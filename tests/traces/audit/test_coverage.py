"""Parameter coverage: the four states, and what cannot be distinctive."""

from traces.audit.coverage import CoverageState, blind_spots, coverage_matrix

REF = {"ref": "MLATokenToKVPool#1"}


def states(recordings):
    return {f"{cell.callee}.{cell.parameter}": cell.state for cell in coverage_matrix(recordings)}


def state_of(made, *given, default=None, left_out=None):
    """State of parameter ``x`` of ``Host``, over one scenario for each set of arguments."""
    defaults = {"Host": {} if default is None else {"x": default[0]}}
    recordings = {
        f"s{number}": made.recording(
            f"s{number}", made.call("Host#1", values, left_out=left_out), defaults=defaults
        )
        for number, values in enumerate(given)
    }
    return states(recordings)["Host.x"]


def test_a_value_unlike_its_default_and_unlike_its_neighbours_is_distinctive(made):
    assert state_of(made, {"x": 771, "y": 64}, default=[256]) is CoverageState.DISTINCTIVE


def test_a_parameter_that_is_never_given_is_never_set(made):
    assert state_of(made, {"y": 64}, left_out={"x": 256}, default=[256]) is CoverageState.NEVER_SET


def test_a_parameter_that_gets_its_default_only_is_told_apart(made):
    assert state_of(made, {"x": 256, "y": 64}, default=[256]) is CoverageState.DEFAULT_ONLY


def test_a_value_that_a_neighbour_always_has_is_no_more_than_non_default(made):
    assert state_of(made, {"x": 64, "y": 64}, default=[256]) is CoverageState.NON_DEFAULT


def test_one_scenario_in_which_the_neighbour_differs_is_enough(made):
    given = ({"x": 64, "y": 64}, {"x": 64, "y": 16})
    assert state_of(made, *given, default=[256]) is CoverageState.DISTINCTIVE


def test_true_and_one_are_different_values(made):
    assert state_of(made, {"x": 1, "y": True}, default=[0]) is CoverageState.DISTINCTIVE


def test_a_flag_that_is_not_its_default_is_enough(made):
    given = {"x": True, "y": True}
    assert state_of(made, given, default=[False]) is CoverageState.DISTINCTIVE


def test_a_flag_without_default_needs_both_values(made):
    assert state_of(made, {"x": True}) is CoverageState.NON_DEFAULT
    assert state_of(made, {"x": True}, {"x": False}) is CoverageState.DISTINCTIVE


def test_the_default_of_a_call_that_leaves_it_out_counts_where_no_plain_default_is_known(made):
    recordings = {
        "a": made.recording("a", made.call("Host#1", {}, left_out={"x": REF})),
        "b": made.recording("b", made.call("Host#1", {"x": REF})),
    }
    assert states(recordings)["Host.x"] is CoverageState.DEFAULT_ONLY


def test_a_blind_spot_names_the_line_of_the_call_and_its_scenarios(made):
    recordings = {
        "a": made.recording(
            "a",
            made.call("build_kv_only_stack#1", {"size": 8}, role="builder"),
            made.call("Host#1", {"x": 64, "y": 64}, parent="build_kv_only_stack#1", line=12),
        )
    }
    found = blind_spots(recordings)
    assert [(one.where, str(one.after)) for one in found] == [
        ("Host.x", "non-default"),
        ("Host.y", "non-default"),
    ]
    assert (found[0].location.file, found[0].location.line) == ("assembler/stacks.py", 12)
    assert found[0].scenarios == ("a",)


def test_distinctive_parameters_are_no_findings(made):
    recordings = {"a": made.recording("a", made.call("Host#1", {"x": 64, "y": 16}))}
    assert blind_spots(recordings) == ()
