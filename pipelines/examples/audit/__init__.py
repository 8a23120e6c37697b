"""The proof, before anything is published, that no future leaked into the examples."""
