"""``aweigh doctor --data``: what is wrong, and what is odd, about a data set, before anybody trains on it."""
