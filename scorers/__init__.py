"""Scorers: whatever maps (conversation, candidate) to numbers, and the server that runs them."""
