"""Address drivers."""
