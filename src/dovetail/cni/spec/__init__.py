"""The wire types of CNI: one file a wire version."""
