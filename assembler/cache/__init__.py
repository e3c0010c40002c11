"""Caches that keep KV on the device and on the host."""
