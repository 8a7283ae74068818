"""Photos and clips become shards: plan, workers, stages, report."""
