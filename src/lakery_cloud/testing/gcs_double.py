"""The strict double of Cloud Storage, at its former place."""

from lakery_cloud.testing.doubles.gcs import StrictGCS

__all__ = ["StrictGCS"]
