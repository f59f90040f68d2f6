"""What is stored of utterances; `FORMAT.md` says how it lies on disk."""
