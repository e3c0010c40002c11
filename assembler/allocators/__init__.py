"""Allocators: who owns which slots."""
