"""What every command stands on: memory, threads, records of runs, settings."""
