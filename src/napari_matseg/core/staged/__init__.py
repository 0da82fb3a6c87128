"""A network taken apart into its layers, so that a large image goes through it exactly and nearly nothing is done twice."""
