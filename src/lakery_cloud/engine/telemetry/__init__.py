"""What operations and their requests report to OpenTelemetry and the log."""
