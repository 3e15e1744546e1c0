"""The training loop: gradient, optimizer, trainer."""
