"""Many runs: schedules of what is missing, sweeps, jobs of a cluster."""
