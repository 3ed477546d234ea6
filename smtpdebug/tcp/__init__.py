"""Columns to in-order bytes: the reassembler."""
