"""Values only, no behaviour that needs another room."""
