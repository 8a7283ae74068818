"""Reads numbers from pickles without running anything in them."""
