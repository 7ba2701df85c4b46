"""The mesh, several processes as one run, and how each parameter is split over devices."""
