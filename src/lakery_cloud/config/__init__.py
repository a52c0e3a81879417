"""From configuration to storages: by URL, or from `lakery-cloud.toml`, environment variables and Python."""
