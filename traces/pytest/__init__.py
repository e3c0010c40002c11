"""The pytest plug-in: fixture ``golden_trace``, golden files, inventory."""
