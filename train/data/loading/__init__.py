"""From records to batches: augmentation, order, workers."""
