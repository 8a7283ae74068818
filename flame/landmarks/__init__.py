"""Every landmark index and set of the project."""
