"""Acknowledgements of copies that every rank of a cache has finished."""

from assembler.collectives import CollectiveRole
from assembler.controller.hybrid import HybridCacheController
from assembler.controller.operations import take_finished


def take_written(controller: HybridCacheController, *, block: bool) -> list[int]:
    """Take the nodes whose backup every rank finished, see :func:`take_finished`."""
    acks, role = controller.ack_write_queue, CollectiveRole.WRITE_ACKS
    return take_finished(acks, block=block, ranks=controller.ranks, role=role)


def take_loaded(controller: HybridCacheController) -> list[int]:
    """Take the nodes whose load every rank finished, see :func:`take_finished`."""
    acks, role = controller.ack_load_queue, CollectiveRole.LOAD_ACKS
    return take_finished(acks, block=False, ranks=controller.ranks, role=role)
