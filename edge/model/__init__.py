"""The bundle, and everything that turns frames and words into tokens and back."""
