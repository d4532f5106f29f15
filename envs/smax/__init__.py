"""JaxMARL's SMAX battles."""
