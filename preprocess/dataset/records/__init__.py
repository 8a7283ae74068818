"""Records of a dataset, and the shards that hold them."""
