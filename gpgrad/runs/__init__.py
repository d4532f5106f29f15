"""Runs on disk: their files, how they are read, statistics over them. Imports no jax."""
