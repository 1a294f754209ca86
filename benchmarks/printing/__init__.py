"""What programs print, and how it reaches a client: beside websocketd, which stores nothing, and the afternoon's work."""
