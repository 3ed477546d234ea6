"""Outputs: each sink writes conversations in one format."""
