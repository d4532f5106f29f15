"""Trained teams: loading, acting, exporting."""
