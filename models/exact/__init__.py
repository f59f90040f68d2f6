"""Exact heads by linear algebra: whole regularisation paths and kernel grids."""
