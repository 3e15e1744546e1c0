"""What the commands share: the reports and how they are shown, model files, servers, comparisons in turns."""
