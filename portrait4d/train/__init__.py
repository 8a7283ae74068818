"""What trains a network: averages, lazy phases."""
