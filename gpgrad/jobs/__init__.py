"""Many runs: training what is missing of a set of configurations, sweeps, cluster jobs."""
