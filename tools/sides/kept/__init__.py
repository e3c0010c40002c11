"""Kept runs: recordings of earlier runs, used again where a change cannot reach them."""
