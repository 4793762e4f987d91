"""The core: what a family is, and the verbs that make and read families. No HTTP, no SQL or Cypher text."""
