"""Benchmarks of the gate, the recorder and the devices."""
