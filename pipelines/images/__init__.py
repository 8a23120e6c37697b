"""Images: found, decoded, written as records, and turned into content vectors."""
