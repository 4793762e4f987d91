"""The door: who calls, what this caller may do and how often, and what is remembered of it."""
