"""Audio files: containers and samples."""
