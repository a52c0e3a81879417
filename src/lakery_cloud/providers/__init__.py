"""One storage class for each provider: its settings, its transport, its error map. No provider knows another."""
