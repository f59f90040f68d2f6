"""The four media of a table: the terminal, a page, CSV and LaTeX; a module each."""
