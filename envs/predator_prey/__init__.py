"""Predator-prey, a hunt on a bounded board."""
