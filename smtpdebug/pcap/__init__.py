"""Capture bytes to columns."""
