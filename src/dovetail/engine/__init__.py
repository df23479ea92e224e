"""The order of calls, the undo, the locks, the reconciliation."""
