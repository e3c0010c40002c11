"""Statistics of a campaign, and how they are printed."""
