"""Holds every landmark index, group and correspondence of the project."""
