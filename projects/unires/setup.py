"""`pip install ./projects/unires`."""

from setuptools import setup

setup(
    name="partglee-unires",
    version="0.1.0",
    description="UniRES: referring segmentation of objects and their parts (MRES, CVPR 2024) on partglee",
    packages=["unires", "unires.configs"],
    package_dir={"unires.configs": "configs"},
    package_data={"unires.configs": ["*.yaml"]},
    python_requires=">=3.10",
    install_requires=["partglee", "transformers>=4.40"],
    entry_points={"partglee.plugins": ["unires = unires"], "console_scripts": ["unires = unires.cli:main"]},
)
