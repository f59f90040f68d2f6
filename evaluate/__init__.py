"""What a result is (metrics, intervals, runs) and how it is shown (score, report, plots).

The lower half (`metrics`, `intervals`, `runs`) is imported by `models` and `fusion`; nobody imports
the upper half (`score`, `report`, `plots`).
"""
