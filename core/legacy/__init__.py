"""Coming from the scripts that this project replaces: their config, flags and files in our terms."""
