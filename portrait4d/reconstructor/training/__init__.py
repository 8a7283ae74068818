"""How the reconstructor learns from synthesised heads: losses, data, the training task."""
