"""One training loop for every network of the project.

A `Task` says what is trained: networks, phases and their losses, samples. The loop owns everything else: optimisers,
averages, accumulation, processes, randomness, statistics, checkpoints, alarms.
"""
