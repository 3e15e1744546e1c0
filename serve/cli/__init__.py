"""The serve verb."""
