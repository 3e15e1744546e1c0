"""The verb label."""
