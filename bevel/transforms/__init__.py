"""Floor 2: transforms over flat lists of values and graphs; no pytrees, no user handles."""
