"""Measurements of methods, teams and speed."""
