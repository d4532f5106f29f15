"""Rendered episodes, HTML reports and wandb dashboards."""
