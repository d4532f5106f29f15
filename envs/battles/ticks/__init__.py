"""One tick of a battle: decisions, collision avoidance (ORCA), turns."""
