"""Named experiments: what to run, what to draw, what was found."""
