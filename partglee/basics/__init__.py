"""What everything stands on: files that appear whole and are read with one line about what is wrong, the disk and its
locks, masks, names, signals, processes, projects that register themselves. Nothing here imports the rest."""
