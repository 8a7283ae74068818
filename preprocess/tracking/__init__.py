"""Tracks a head through a clip: tracker, smoothing, motion files, drivers of the released tools."""
