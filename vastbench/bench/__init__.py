"""Marketplace, store and clock opened together; studies."""
