"""Training data: items out of photos and clips, shards, readers and the formats of others."""
