"""What everything stands on: files that appear whole, names, processes. Nothing here imports the rest."""
