"""Storages from URLs, and from configurations: `lakery-cloud.toml`, environment variables and Python."""
