"""What `[extract] engine` may name; `extract.encoders` has the two that compute."""

from __future__ import annotations

EXACT, REFERENCE = "exact", "reference"
ENGINES = ("auto", EXACT, REFERENCE)
"""`exact`: files packed together, of known families; `reference`: transformers' own forward, file
by file; `auto`: the first where it knows the family, else the second."""
