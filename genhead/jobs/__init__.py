"""The work of the commands of `genhead`: pictures, videos, shapes, synthesised training data."""
