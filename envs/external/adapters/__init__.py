"""Simulators of other libraries behind one protocol."""
