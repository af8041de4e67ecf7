"""The HTTP API and its pages: parse the request, call the service, build the response."""
