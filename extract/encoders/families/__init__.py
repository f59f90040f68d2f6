"""One module a family whose forward is exact here: frames, preparation, forward, cost."""
