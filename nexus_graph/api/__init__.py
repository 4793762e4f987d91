"""What clients call: GraphQL, REST and the operators' routes. Verbs do the work; nothing here decides."""
