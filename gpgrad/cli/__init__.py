"""One file per command of `python -m gpgrad`: its USAGE, and `main(arguments)`, which returns the exit code."""

COMMANDS = ("train", "sweep", "eval", "render", "report", "export", "watch", "ls", "compare", "mirror", "dashboard")
COMMANDS += ("bench", "occupancy", "buckets", "separation", "params", "check", "list")
