"""What is asked, by which clients, and what they saw."""
