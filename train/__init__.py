"""aweigh.train: data, models, label-assignment methods, the training loop and evaluation."""
