"""Many machines: a server of several replicas, and files of texts, both by Ray."""
