"""Combinations of the predictions of several models."""
