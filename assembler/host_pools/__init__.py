"""Host pools: the copies of device rows in host memory, and who owns their slots."""
