"""Released weights of other code bases, converted to aweigh checkpoints."""
