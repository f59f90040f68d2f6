"""How results are shown: one table, four media. Computes nothing."""
