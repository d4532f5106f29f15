"""Films, pages and dashboards."""
