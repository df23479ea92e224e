"""The CNI contract, both sides."""
