"""SMAC's maps as JAX environments."""
