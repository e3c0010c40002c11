"""Comparison of sides and goldens, and everything that writes goldens."""
