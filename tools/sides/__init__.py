"""Sides of a comparison: parsed, prepared and opened."""
