"""The embedded engine: lifts one photo onto the open head, without a trained avatar network."""
