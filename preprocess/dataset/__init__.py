"""Training data: records made from photos and clips, shards, readers, and the formats of others."""
