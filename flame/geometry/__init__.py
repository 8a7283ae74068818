"""Rotations and cameras."""
