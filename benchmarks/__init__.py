"""What the project costs, measured: scripts that time it beside its peers on the machine at hand.

A timing is not a test. Their figures are in `RESULTS.md`, each with its command.
"""
