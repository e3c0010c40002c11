"""A correction of the host layout that has to happen before any pool is built."""

import logging

from assembler.names import HostLayout, IoBackend
from assembler.params import ServerArgs

logger = logging.getLogger(__name__)


def fix_direct_layout(server_args: ServerArgs) -> None:
    """Ask for ``page_first_direct`` where ``direct`` would have to move ``page_first``.

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
