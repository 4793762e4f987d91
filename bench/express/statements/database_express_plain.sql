-- A database of its own for its plainer form, on the server that holds the record.
CREATE DATABASE express_plain
