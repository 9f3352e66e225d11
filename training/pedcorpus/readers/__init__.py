"""One small module per family of sources."""
