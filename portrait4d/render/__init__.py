"""Volume rendering: rays, samples along them, a field's values there, and their sum."""
