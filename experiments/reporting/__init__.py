"""From finished runs to pages, pictures and verdicts."""
