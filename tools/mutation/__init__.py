"""Mutation tests of the gate: small faults, one at a time, and harmless refactors."""
