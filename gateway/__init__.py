"""Bestow's gateway: an OpenAI-compatible front that samples, judges and delivers the best safe candidate."""

__version__ = "0.1.0"
