"""Many head models fitted in one call, on any device."""
