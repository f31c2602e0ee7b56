#!/usr/bin/env bash
# The real detectron2 0.6 for `make test-detectron2`, from PyPI and without a compiler: its C++ operators are not needed.
# usage: tools/install_detectron2.sh PYTHON FOLDER
#   PYTHON   of an environment that has partglee with its extra `dev`; nothing is installed there
#   FOLDER   of the new environment, which sees the packages of PYTHON
set -euo pipefail
python=$1
folder=$2
hash=5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29

rm -rf "$folder"
"$python" -m venv --without-pip "$folder"
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
seen=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
echo "import site; site.addsitedir('$seen')" > "$site/partglee_packages.pth"

# Other releases of pip refuse to download this source archive, or to build it.
"$python" -m pip install -q --no-deps --target "$folder/pip" "pip==25.3"
echo "pb1-detectron2==0.6 --hash=sha256:$hash" > "$folder/detectron2.txt"
PYTHONPATH="$folder/pip" "$python" -m pip download -q --no-deps --no-build-isolation --no-binary :all: --require-hashes \
    -r "$folder/detectron2.txt" -d "$folder"
tar xzf "$folder/pb1-detectron2-0.6.tar.gz" -C "$folder"
echo "$PWD/$folder/pb1-detectron2-0.6" > "$site/detectron2.pth"
touch "$folder/pb1-detectron2-0.6/detectron2/_C.py"  # imported, and used by operators alone that nothing here calls
PYTHONPATH="$folder/pip" "$folder/bin/python" -m pip install -q --no-deps --ignore-installed \
    cloudpickle "omegaconf>=2.1,<2.4" "hydra-core>=1.1" antlr4-python3-runtime==4.9.3
