"""Formats of traces and verdicts: records, canonical text, files."""
