"""A head model as the networks know it: its parts, its place in their world, where it is in a picture."""
