"""Unit types, maps, terrain, sampled teams and custom battles."""
