"""Inputs: everything that touches files, programs and interfaces."""
