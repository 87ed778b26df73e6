"""/v1/responses: OpenAI's Responses API over the chat path, with conversations kept in Redis."""
