"""What happens within a tick of a battle."""
