"""A model as a frozen description, its inputs, and applying it."""
