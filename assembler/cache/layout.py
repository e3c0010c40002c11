"""The correction of a host layout that the io backend cannot move."""

import logging

from assembler.names import HostLayout, IoBackend
from assembler.params import ServerArgs

logger = logging.getLogger(__name__)


def fix_direct_layout(server_args: ServerArgs) -> None:
    """Replace the layout ``page_first`` by ``page_first_direct`` for the io backend ``direct``.

    Changes ``server_args`` in place and logs a warning.

    Source: sglang 0.5.12 ``unified_radix_cache.py:298-336``.
    """
    if (
        server_args.hicache_io_backend == IoBackend.DIRECT
        and server_args.hicache_mem_layout == HostLayout.PAGE_FIRST
    ):
        server_args.hicache_mem_layout = HostLayout.PAGE_FIRST_DIRECT.value
        logger.warning(
            "the io backend direct cannot move the host layout page_first; "
            "using page_first_direct instead"
        )
