"""Tests of the neural heads."""
