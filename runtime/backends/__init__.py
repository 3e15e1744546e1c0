"""Back ends behind one interface."""
