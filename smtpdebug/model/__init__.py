"""The nouns. Parsers make them, rules and renderers read them; nothing here does anything."""
