"""Tables from and to store, files and foreign formats."""
