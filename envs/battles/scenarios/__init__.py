"""Who fights, where and for how long. NumPy only."""
