"""Side-by-side measurements, one file a question. `make bench ONLY=name` prints a table and one JSON line."""
