"""A deployed App: its endpoints, its runs, and the programs it may be."""
