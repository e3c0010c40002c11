"""Search for the first divergence of two sides of one scenario.

An ordinary trace holds what is recorded at probes. A fault between two probes shows there only by
its effect. When a scenario can be run again on both sides, every call of the package's own
functions is logged, with inputs, result and the state it leaves, and the two logs are compared call
by call.
"""
