"""Weights: the table of released files, where they lie on this machine, and our own format."""
