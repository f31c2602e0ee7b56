"""`pip install ./projects/mglmm`."""

from setuptools import setup

setup(
    name="partglee-mglmm",
    version="0.1.0",
    description="Metrics of grounded captions, as MGLMM, GLaMM and LISA compute them",
    packages=["mglmm", "mglmm.metrics"],
    python_requires=">=3.10",
    install_requires=["numpy"],
)
