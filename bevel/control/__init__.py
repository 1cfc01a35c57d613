"""Floor 3: the ops that hold graphs. Their rules call the transforms."""
