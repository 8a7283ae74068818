"""What all commands share: memory, threads, records of runs, settings."""
