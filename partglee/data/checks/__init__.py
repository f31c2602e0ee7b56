"""What `partglee data check` looks for in annotation files, images and masks."""
