"""The algorithm, written once for every cloud. It knows no SDK: a provider gives it a transport."""
