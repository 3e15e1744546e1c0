"""aweigh.runtime: run exported detectors, without torch."""
