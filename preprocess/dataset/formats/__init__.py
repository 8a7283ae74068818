"""Reads and writes the datasets of EG3D and Portrait4D."""
