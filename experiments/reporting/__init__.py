"""Reports on finished runs: statistics, verdicts, figures, pages."""
