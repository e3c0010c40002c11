"""Host threads of a controller, with queues and flags between them.

No controller starts one yet: the storage tier will, and they stay in this package for that. On a
simulated device the same threads take turns under a schedule, so their order can be replayed.
"""
