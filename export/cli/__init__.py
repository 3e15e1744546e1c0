"""The verbs of the export stage."""
