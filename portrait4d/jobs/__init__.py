"""The work of the commands, without printing."""
