"""Runs of many experiments, trained one after the other."""
