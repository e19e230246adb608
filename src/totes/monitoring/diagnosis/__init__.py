"""Checks before a batch: everything that would stop it or make it wrong, each with its fix."""
