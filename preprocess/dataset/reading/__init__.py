"""Reads records for training: by index or as a stream, mirrored, balanced."""
