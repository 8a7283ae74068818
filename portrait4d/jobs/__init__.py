"""The work of the commands; nothing here prints."""
