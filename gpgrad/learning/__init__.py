"""What runs on the accelerator: collecting, replay, updates, evaluation."""
