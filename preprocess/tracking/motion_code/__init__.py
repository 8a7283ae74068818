"""Computes the motion code of Portrait4D: crop, network, encoder."""
