"""Training a run, from its configuration to its trained teams: the Python loop, checkpoints, seeds, memory."""
