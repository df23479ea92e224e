"""What either face can add to an endpoint."""
