"""The forward of the known families, as matrix products over frames that are packed: torch."""
