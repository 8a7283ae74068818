"""Makes shards of photos and clips: plan, workers, stages, report."""
