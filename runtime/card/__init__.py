"""Model cards of exported files."""
