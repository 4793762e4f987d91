-- A record next to the stack's own. Its name stands in for {name}.
CREATE DATABASE {name}
