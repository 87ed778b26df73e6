"""/v1/completions: text completions. Each prompt of a request is an exchange, and an interaction, of its own."""
