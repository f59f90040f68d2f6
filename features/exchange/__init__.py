"""Features of other programs, in and out."""
