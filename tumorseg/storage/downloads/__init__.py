"""Files from the web, fetched and unpacked."""
