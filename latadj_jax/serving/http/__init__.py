"""An engine as an HTTP server, with the routes that clients of other servers use."""
