"""The proof that an exported file does what the trained model did."""
