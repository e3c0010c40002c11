"""Rendering of verdicts."""
