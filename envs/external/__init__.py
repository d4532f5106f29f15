"""Worlds that are Python programs, each simulator in a process of its own. Importing this package imports nothing."""
