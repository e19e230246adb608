"""Capture from the log: what its packets hold, and what happens at its seams."""
