"""Stack builders: device pools in, host pool group and cache controller out.

Names, keywords and defaults are those of the field, because callers and golden traces know them.
Below these signatures nothing has a default, and every builder ends at
:func:`assembler.validation.validate_stack`, so a keyword lost on the way is an error and not
another shape.

Layer mappings go from *global* layer ids to layer indices in a pool, for the layers of this
pipeline stage. Stacks count layers from the stage's first one, whose id the allocator's device pool
knows, up to the last one any pool has: ids with gaps and later stages are loaded completely.

Their arguments:

* ``params``: the cache's parameters; allocator and request pool are taken from it.
* ``server_args``: sizes, layout, io backend and write policy.
* ``kv_pool``, ``full_kv_pool``, ``swa_kv_pool``, ``mamba_pool``: device pools to mirror; each has
  the layers of the mapping that is named like it. A layer may be in two pools.
* ``page_size``: tokens of a page.
* ``tp_group``, ``attn_cp_group``, ``attn_tp_group``: process groups, as objects.
* ``load_cache_event``: the cache's signal that loads are wanted.
* ``storage_backend``, ``prefetch_threshold``, ``model_name``, ``storage_backend_extra_config``,
  ``enable_storage_metrics``: the storage tier, kept by the controller.
* ``use_mla``: whether the KV pool has latent rows.
* ``override_kv_cache_dim``: elements of a latent row that is not rank plus rotary part.
* ``host_*_evict_fn``, ``device_*_evict_fn``: called with a number of slots when a pool with slots
  of its own has too few, on the host or on the device.
* ``pp_rank``, ``pp_size``: pipeline stage and number of stages.
* ``pp_group``: ranks of the same place in every stage (0.5.13); stage and number come from it.

All raise AssemblyError when the stack would not mirror the device pools exactly, PoolError when a
host pool cannot have the layout or outgrow its device pool, OutOfHostMemoryError when it does not
fit, and TransferError for an unknown io backend.

Source: sglang 0.5.12 ``hybrid_pool_assembler.py`` after #25022; ``build_shared_anchor_stack`` under
the name it had in 0.5.11. Both number layers by ``len(mapping)`` instead.
"""

from assembler.stacks.hybrid_mamba import build_hybrid_mamba_stack
from assembler.stacks.hybrid_swa import build_hybrid_swa_stack
from assembler.stacks.kv_only import build_kv_only_stack
from assembler.stacks.parts import build_kv_host_pool, build_pool_entry
from assembler.stacks.shared_anchor import build_shared_anchor_stack

__all__ = [
    "build_hybrid_mamba_stack",
    "build_hybrid_swa_stack",
    "build_kv_host_pool",
    "build_kv_only_stack",
    "build_pool_entry",
    "build_shared_anchor_stack",
]
