"""What is missing, and in which batches it is computed."""
