"""Audio in, store out. The only room that needs a GPU, the audio, or torch."""
