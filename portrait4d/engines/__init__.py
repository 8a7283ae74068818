"""Engines: a tracked source becomes an avatar, an avatar and a drive become pictures."""
