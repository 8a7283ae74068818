"""The command line `portrait4d`. Nothing here imports torch before a command runs."""
