"""Images from strangers are decoded in processes that may die."""
