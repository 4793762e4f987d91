// Where this server says that its Browser is, as host:port.
// Parameters: none.
SHOW SETTINGS 'server.http.advertised_address' YIELD value RETURN value
