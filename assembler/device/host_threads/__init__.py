"""Host threads of a controller, with queues and flags between them.

The storage tier starts two, for prefetches and for backups. On a simulated device the same threads
take turns under a schedule, so their order can be replayed.
"""
