"""What a recipe may name: one record an idea, as plain data.

Conventions
-----------
- A record says what a recipe may ask for: its key, for which task, and what else is to be known of
  it before anything is computed. It is implemented under its key in the room that owns it, which
  `tests/test_known.py` holds together.
- What is not in a record has no default. Records stand in the order in which they are listed to a
  user.
- Must not import anything but `features.recipe.known`.
"""
