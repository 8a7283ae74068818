"""Datasets of EG3D and Portrait4D, in and out."""
