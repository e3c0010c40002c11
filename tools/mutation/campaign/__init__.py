"""The driver of a campaign: tasks, order of scenarios, journal, Ray."""
