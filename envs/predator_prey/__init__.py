"""Predator-prey on a bounded board."""
