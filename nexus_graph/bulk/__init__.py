"""Files of contacts into the record: `load` sends their rows through identify, `import` takes them in by the chunk."""
