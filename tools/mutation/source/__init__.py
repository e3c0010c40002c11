"""LibCST reading and editing of source text."""
