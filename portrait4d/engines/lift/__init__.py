"""The embedded engine: lifts one photo onto the open head, without any trained avatar network."""
