"""A run from its settings to its trained teams: the loop on the host, checkpoints, seeds, memory."""
