"""Networks, the engine that trains many at once, losses, and their estimators: torch.

No module of the path of a classical training imports this folder, but inside the function that
trains or loads a neural head.
"""
