"""Weights: official files read without running anything in them, and a format of our own."""
