"""TLS from the outside (records, handshakes, certificates) and, with secrets, from the inside."""
