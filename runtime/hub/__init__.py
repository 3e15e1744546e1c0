"""Model files to a Hugging Face hub and back, with their receipts."""
