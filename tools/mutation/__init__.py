"""Measures the net: faults that a refactor can make, one at a time, and harmless refactors."""
