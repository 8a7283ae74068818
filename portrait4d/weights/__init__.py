"""Weights: the table of released ones, where they lie, our own format."""
