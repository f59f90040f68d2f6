"""What a result is, and how it is shown.

The lower half (`metrics`, `rank_sums`, `intervals`, `frames`, `comparisons`, `complementarity`,
`runs`) is imported by `models` and `fusion`; nobody imports the upper half (`score`, `groups`,
`statistics`, `report`, `plots`).
"""
