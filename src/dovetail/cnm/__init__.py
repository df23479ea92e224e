"""Docker's plugin protocol."""
