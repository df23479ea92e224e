"""Network drivers, one file a technique."""
