"""The HTTP API without its transport: requests in, views out."""
