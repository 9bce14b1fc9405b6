"""What a serving engine is, by version: constants, defaults, backends."""
