"""The work of `portrait4d evaluate`."""
