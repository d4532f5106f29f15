"""One file per command of `python -m gpgrad`: its USAGE, and `main(arguments)`, which returns the exit code."""

COMMANDS = ("train", "eval", "export", "bench", "occupancy", "buckets", "render", "separation", "params", "list")
