"""Average precision of both models on a data set, and how far its score thresholds move."""
