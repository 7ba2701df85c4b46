"""A folder that runs a model in a browser: exported graphs, a page, and the libraries it needs."""
