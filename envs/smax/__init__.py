"""SMAX, JaxMARL's battle environment."""
