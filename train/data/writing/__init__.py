"""Writers of annotation formats."""
