"""What a command and a notebook's cell ask alike: from names of runs to a result that shows itself."""
