"""What a result is: typed records, computed from runs."""
