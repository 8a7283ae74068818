"""Readers of the released files, which run nothing in them."""
