"""External environments: Python programs, each simulator in its own worker process."""
