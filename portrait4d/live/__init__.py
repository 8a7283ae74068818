"""A head that is driven while one watches: newest frames only, two stages, measured latency."""
