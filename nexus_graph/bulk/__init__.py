"""Files of contacts into the record: `load` sends each row through identify, `import` writes chunk by chunk."""
