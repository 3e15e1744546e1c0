"""The verbs push and pull."""
