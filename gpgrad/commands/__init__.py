"""One file per command of `python -m gpgrad`: its USAGE, and `main(arguments)`, which returns the exit code."""

COMMANDS = ("train", "eval", "bench", "occupancy", "buckets", "render", "report", "separation", "params", "list")
