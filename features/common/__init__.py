"""What every room uses: commands, files, errors, words. Knows nothing of speech."""
