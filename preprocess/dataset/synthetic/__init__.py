"""Synthesised subjects, made by GenHead, as training data: what a record holds, and its files."""
