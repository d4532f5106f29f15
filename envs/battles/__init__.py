"""SMAC's battles in JAX."""
