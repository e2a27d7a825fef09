"""From tables of labeled texts to three splits. Importing the readers takes a second: open `labeled_rows` for
the texts of a config, `tables` for any table, `stage` for the stage `split`."""
