"""A training set that no camera has seen: renders of the open head with all their parameters."""
