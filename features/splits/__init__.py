"""Who is fitted on and who is held out."""
