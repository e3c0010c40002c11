"""Allocators of device slots, and the request table."""
