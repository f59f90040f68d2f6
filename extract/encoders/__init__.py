"""Pre-trained speech models: what they are, where they lie, how they are run."""
