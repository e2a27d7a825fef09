"""One path for all requests to chat-completion endpoints."""
