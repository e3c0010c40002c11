"""Parts that the adapters of all targets share; nothing here knows a target."""
