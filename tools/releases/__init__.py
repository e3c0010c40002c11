"""Comparison of many releases: surveys and backtests."""
