"""What a browser does, seen in a real Chromium under a strict content security policy."""
