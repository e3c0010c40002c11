"""Findings from one side's recordings: no golden and no second version are needed.

Pure functions over recordings; each rule is a module and says what it can and cannot see.
"""

from collections.abc import Collection

from traces.audit.assembly_calls import Recordings, with_stacks, without_refusals
from traces.audit.balance import unbalanced_pools
from traces.audit.conservation import byte_mismatches
from traces.audit.coverage import blind_spots
from traces.audit.exports import mismatched_buffers, mismatched_pages, mismatched_slices
from traces.audit.failures import failed_scenarios
from traces.audit.finding import merge_findings
from traces.audit.judgement import judged_findings
from traces.audit.lineage import Lineage, changed_sources, scenarios_of
from traces.audit.prefetches import unbacked_prefetches
from traces.audit.readiness import unready_reads
from traces.audit.restoration import unrestored_rows
from traces.audit.siblings import sibling_disagreements
from traces.audit.slot_state import left_behind
from traces.audit.storage_keys import client_misuses, key_collisions
from traces.audit.uncalled import uncalled_methods
from traces.schema.verdict import Cause


def audit(
    recordings: Recordings, *, recorded: Lineage, models: Collection[str] | None = None
) -> tuple[Cause, ...]:
    """Return the findings of every rule, each once, the worst first; refusals are left out.

    The recordings need their sites, which name lines and defaults; ``recorded`` is the lineage on
    file, empty for none, and ``models`` are those it was recorded from, None for any.
    """
    recordings = without_refusals(recordings)
    stacks = with_stacks(recordings)
    merged = merge_findings(
        (
            *unrestored_rows(recordings),
            *unbacked_prefetches(recordings),
            *byte_mismatches(recordings),
            *unready_reads(recordings),
            *mismatched_buffers(recordings),
            *mismatched_pages(recordings),
            *mismatched_slices(recordings),
            *left_behind(recordings),
            *unbalanced_pools(recordings),
            *key_collisions(recordings),
            *client_misuses(recordings),
            *failed_scenarios(recordings),
            *sibling_disagreements(stacks),
            *changed_sources(scenarios_of(models, stacks), recorded=recorded),
            *blind_spots(stacks),
            *uncalled_methods(recordings),
        )
    )
    return judged_findings(merged, recordings)
