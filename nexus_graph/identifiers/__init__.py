"""Emails and phone numbers: what people send, and the one canonical form of each."""
