"""Intervals and tests by drawing again."""
