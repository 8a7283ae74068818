"""The command line `portrait4d`. No module here imports torch before a command runs."""
