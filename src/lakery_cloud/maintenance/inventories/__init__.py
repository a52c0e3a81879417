"""The providers' own inventories of buckets, as input of jobs instead of listings."""

from lakery_cloud.maintenance.inventories.inventory import Inventory, read_inventory

__all__ = ["Inventory", "read_inventory"]
