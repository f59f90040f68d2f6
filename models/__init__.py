"""Heads: scikit-learn pipelines fitted on the stored features of a speech model."""
