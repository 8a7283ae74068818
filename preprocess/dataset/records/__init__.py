"""What one record holds and how shards keep it."""
