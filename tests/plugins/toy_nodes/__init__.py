"""Toy nodes for tests of the engine: an installed plugin, found by its entry point."""
