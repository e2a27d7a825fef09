"""Import configs, prompts and answers of the scripts that this project replaces: open `convert`."""
