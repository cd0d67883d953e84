"""One run or study as text, HTML and sentences."""
