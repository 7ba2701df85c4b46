"""A page that shows which word-vectors each layer removes."""
