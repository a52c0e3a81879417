"""Amazon S3 and stores with its API."""
