"""A run's folder: predictions, `run.json`, whether it is fresh, whether it can be made again."""
