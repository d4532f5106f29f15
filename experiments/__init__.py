"""Named experiments: definitions (`catalog`), scheduling, reports and recorded results."""
