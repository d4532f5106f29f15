"""Adapters from other libraries to `protocol.Simulator`."""
