-- A database of its own, on the server that holds the record.
CREATE DATABASE express
