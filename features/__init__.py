"""The floor: what is known about utterances, and the store of their features.

Imports no other room. Data comes up through `corpora`, `utterances`, `store` and `matrix`, in that
order; `recipe` and `command` serve all five commands.
"""
