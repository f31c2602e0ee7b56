"""`python train_net.py --config-file configs/unires_toy.yaml`: `partglee train` with this project known."""

import sys

from partglee.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "--import", "unires", *sys.argv[1:]]))
