"""`pip install ./projects/mglmm`."""

from setuptools import setup

setup(
    name="partglee-mglmm",
    version="0.1.0",
    description="MGLMM: images described and segmented at the granularity asked for, on partglee",
    packages=[
        "mglmm",
        "mglmm.configs",
        "mglmm.data",
        "mglmm.data.readers",
        "mglmm.data.wordings",
        "mglmm.evaluation",
        "mglmm.masks",
        "mglmm.metrics",
        "mglmm.mgsc",
        "mglmm.toy",
    ],
    package_dir={"mglmm.configs": "configs"},
    package_data={
        "mglmm.configs": ["*.yaml"],
        "mglmm.data.wordings": ["*.yaml"],
        "mglmm.mgsc": ["*.txt", "*.yaml"],
        "mglmm.toy": ["*.json"],
    },
    python_requires=">=3.10",
    install_requires=["numpy", "partglee"],
    entry_points={"partglee.plugins": ["mglmm = mglmm"]},
    extras_require={
        "model": ["transformers>=5.20", "peft>=0.18", "tokenizers"],  # the metrics do without
        "java": ["pycocoevalcap>=1.2"],  # METEOR's jar; SPICE wants more, see mglmm.metrics.java
    },
)
