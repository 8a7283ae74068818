"""A head followed through a clip: tracker, smoothing, motion files, released drivers."""
