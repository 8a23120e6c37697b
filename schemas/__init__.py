"""What data is, never how it is made: table contracts, manifests, and their form in each engine."""
