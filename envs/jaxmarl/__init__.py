"""JaxMARL's other environments, by one adapter. Importing this package imports neither jax nor jaxmarl."""
