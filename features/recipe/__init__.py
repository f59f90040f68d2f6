"""What a user asks for: a recipe, read and checked as a whole."""
