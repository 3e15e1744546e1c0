"""When two sets of outputs count as equal: matching, tolerances, the self-test."""
