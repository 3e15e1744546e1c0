"""Released weights of other code bases, read into checkpoints of ours."""
