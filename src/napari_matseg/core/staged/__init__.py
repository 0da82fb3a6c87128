"""A network taken apart into its layers, each of which is computed once for the whole of a large image."""
