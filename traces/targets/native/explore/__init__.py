"""Random traffic on small native stacks: faults, a model of the cache, invariants."""
