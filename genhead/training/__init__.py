"""How GenHead learns: losses, pictures with fitted heads, the training task."""
