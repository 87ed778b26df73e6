"""`bestow up`, `bestow doctor` and the configuration they share: everything that starts the parts on one machine."""
