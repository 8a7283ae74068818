"""Fits a head model to the landmarks of pictures and clips."""
