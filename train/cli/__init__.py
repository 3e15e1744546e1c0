"""The verbs of the training stage."""
