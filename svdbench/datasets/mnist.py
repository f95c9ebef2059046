"""MNIST: 60,000 and 10,000 handwritten digits of 28×28 pixels."""

from typing import ClassVar

from .files import Published
from .idx import IdxDataset


class MNIST(IdxDataset):
    """Handwritten digits, 60,000 to train on and 10,000 to test, of 28×28 pixels.

    Licence, by the stricter of two second-hand accounts: CC BY-SA 3.0.
    """

    name = "mnist"
    title = "MNIST"
    what = "handwritten digits"
    shape = (28, 28)
    examples = (60_000, 10_000)
    licence = "CC BY-SA 3.0"
    source = "LeCun, Bottou, Bengio and Haffner, Gradient-based learning, Proc. IEEE, 1998"
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    files: ClassVar[dict[str, Published]] = {
        "train-images-idx3-ubyte.gz": Published(
            9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        "train-labels-idx1-ubyte.gz": Published(
            28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        "t10k-images-idx3-ubyte.gz": Published(
            1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        "t10k-labels-idx1-ubyte.gz": Published(
            4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
        "train-images-idx3-ubyte": Published(
            47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": Published(
            60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": Published(
            7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": Published(
            10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    }
