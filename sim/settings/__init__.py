"""What a study says of clusters and engines: checked, and resolved with every default."""
