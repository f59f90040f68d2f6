"""Every subset of the members, and which to choose."""
