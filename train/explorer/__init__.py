"""What each method assigns in one image, as a page."""
