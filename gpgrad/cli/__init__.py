"""One file per command of `gpgrad`: its click command `main`, which returns the exit code."""

COMMANDS = ("train", "sweep", "eval", "render", "report", "export", "watch", "ls", "compare", "mirror", "dashboard")
COMMANDS += ("tune", "experiment", "bench", "occupancy", "buckets", "separation", "params", "check", "list")
COMMANDS += ("import-pymarl", "completion")
