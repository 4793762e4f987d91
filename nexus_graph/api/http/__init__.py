"""HTTP: requests and answers as values, the two ways that carry them, and the connections they come by."""
