"""Complete, commented TOML recipes: one per command, one per table of the papers."""
