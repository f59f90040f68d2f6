"""What a result is, and how it is shown.

A ladder of folders, each importing those before it: `metrics`, `statistics`, `runs`, `scores`,
`report`. `models` and `fusion` import from here; nothing here imports them.
"""
