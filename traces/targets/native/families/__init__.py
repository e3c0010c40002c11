"""Scenario entries of pool families, one module each; found by their place."""
