"""Verdicts that the tests of several formats share."""

from traces.schema.model import Location
from traces.schema.verdict import Cause, Consequence, Kind, Level, ScenarioCounts, Verdict

DROPPED = Cause(
    kind=Kind.ARGUMENT_DROPPED,
    builder="build_shared_anchor_stack",
    callee="MLATokenToKVPoolHost",
    parameter="override_kv_cache_dim",
    before=656,
    location=Location(file="assembler/stacks.py", line=123),
    scenarios=("nsa_fp8",),
    consequences=(
        Consequence(
            kind=Kind.SHAPE_CHANGED,
            where="host.KV.kv_buffer",
            before=[2, 656],
            after=[2, 576],
            level=Level.BEHAVIOUR,
            count=3,
        ),
    ),
    where="",
    message="override_kv_cache_dim is no longer given.",
    rank=(0, 4),
)
ADDED = Cause(
    kind=Kind.CALL_ADDED,
    level=Level.INTERFACE,
    builder="build_kv_only_stack",
    scenarios=("llama", "nsa_fp8"),
    where="build_kv_only_stack -> helper",
    message="a helper was put between.",
    rank=(0, 9),
)
UNCOVERED = Cause(
    kind=Kind.UNCOVERED_BUILDER, where="build_new_stack", message="no scenario.", rank=(0, 10)
)


def verdict(*causes: Cause, problems: tuple[str, ...] = ()) -> Verdict:
    """Return a verdict of three scenarios with these causes."""
    return Verdict(
        verdict="error" if problems else "fail" if causes else "pass",
        target="native",
        base={"side": "golden"},
        head={"side": "worktree"},
        scenarios=ScenarioCounts(
            played=3,
            unchanged=1,
            changed=2,
            names_changed=("llama", "nsa_fp8"),
            names=("gemma", "llama", "nsa_fp8"),
        ),
        causes=causes,
        problems=problems,
    )
