"""The reference validator: what to think of what was seen."""
