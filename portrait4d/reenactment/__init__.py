"""The parts of a reenactment, from the driver to the written video."""
