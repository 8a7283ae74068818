"""Writes files whole or not at all, takes their digests and checks them."""
