"""Killing runs at named and at random moments, and judging what the same command makes of it."""
