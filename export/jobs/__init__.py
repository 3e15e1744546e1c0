"""The jobs of the export verbs."""
