"""`pip install ./projects/rela`."""

from setuptools import setup

setup(
    name="partglee-rela",
    version="0.1.0",
    description="ReLA: generalized referring segmentation (GRES, CVPR 2023) on partglee",
    packages=["rela", "rela.configs"],
    package_dir={"rela.configs": "configs"},
    package_data={"rela.configs": ["*.yaml"]},
    python_requires=">=3.10",
    install_requires=["partglee", "transformers>=4.40"],
    entry_points={"partglee.plugins": ["rela = rela"], "console_scripts": ["rela = rela.cli:main"]},
)
