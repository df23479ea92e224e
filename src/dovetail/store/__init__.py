"""The only package that keeps state."""
