"""Thin adapters between a source and an HTTP library."""
