"""Volume rendering: rays, samples along them, what a field says there, and the sum."""
