"""The C runtime: its sources, how it is built, and how Python calls it."""
