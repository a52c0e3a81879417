"""A toy provider, made by the steps of CONTRIBUTING.md: a small HTTP store, and the storage class for it."""
