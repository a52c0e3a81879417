"""The local servers, one per module."""
