"""A stack with the file backend, and single operations of its storage tier."""

from assembler.names import ComponentType
from assembler.storage.hooks import NodeBackup, Prefetch
from tests.assembler.small_models import (
    mha_pool,
    params_of,
)
from tests.assembler.stacks.builder_calls import kv_only
from tests.assembler.storage.stores import fill, slots_of

PAGE = 4


def stack(device, build=kv_only, params=None, *, threshold=PAGE, ranks=None, **options):
    """Build a stack with the file backend; its policy is to wait for whole prefetches."""
    config = {"prefetch_policy": "wait_complete", **options}
    arguments = {
        "storage_backend": "file",
        "model_name": "lab/model",
        "prefetch_threshold": threshold,
        "storage_backend_extra_config": config,
        "tp_group": ranks,
    }
    params = params or params_of(mha_pool(device))
    group, controller = build(params, arguments=arguments)
    for number, entry in enumerate(group.entries):
        fill(entry.host_pool, number)
    return group, controller


def keys_of(controller, page_num):
    return controller.storage_tier.page_keys(range(page_num * PAGE), prior=None, namespace=None)


def back_up(controller, keys, **host):
    slots = {ComponentType(name): indices for name, indices in host.items()}
    controller.storage_tier.start_backup(NodeBackup(node_id=7, keys=tuple(keys), host=slots))


def wait_for_backups(controller, number=1):
    ended = []
    while len(ended) < number:
        ended += controller.storage_tier.finished_backups()
    return ended


def start(controller, keys, *, prefix_keys=(), **host):
    slots = {ComponentType(name): indices for name, indices in host.items()}
    return controller.storage_tier.start_prefetch(
        Prefetch(request_id="r", keys=tuple(keys), prefix_keys=tuple(prefix_keys), host=slots)
    )


def finish(controller):
    while (result := controller.storage_tier.finish_prefetch("r", abort=False)) is None:
        pass
    return result


def stored(controller, page_num=3):
    """Store the first pages of the anchor and wait for them; return their keys."""
    keys = keys_of(controller, page_num)
    back_up(controller, keys, full=slots_of(*range(page_num)))
    assert wait_for_backups(controller) == [7]
    return keys


def anchor_of(group):
    return group.anchor_entry.host_pool
