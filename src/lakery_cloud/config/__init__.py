"""From configuration to storages: today by URL."""
