"""The command `latadj`: a module for each of its commands."""
