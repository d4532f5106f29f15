"""Analysis: benchmarks, parameter counts, occupancy of buckets, interference, role separation."""
