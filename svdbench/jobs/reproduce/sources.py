"""The reports whose results are repeated, each with the paper behind it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """The paper that a report is about."""

    cited: str
    title: str
    venue: str
    link: str


@dataclass(frozen=True)
class Source:
    """A report whose results are repeated.

    Attributes:
        cited: its authors in short, with the year if it is dated, as in "Keene 2022".
        link: where its code is; empty if none is known.
        behind: the paper that it is about.
        about: what the report is, and of whose method, in a line.
    """

    cited: str
    authors: str
    title: str
    dated: str
    about: str
    behind: Paper
    link: str = ""


SOURCES = {
    "kovtun": Source(
        cited="Kovtun et al.",
        authors="Elizaveta Kovtun, Olesya Kuznetsova, Dmitrii Korzh",
        title="What if Neural Networks had SVDs?",
        dated="slides, undated",
        about="FastH: products of reflectors in blocks",
        behind=Paper(
            "Mathiasen et al. 2020",
            "What if Neural Networks had SVDs?",
            "NeurIPS 2020",
            "https://arxiv.org/abs/2009.13977",
        ),
    ),
    "shcherbakov-2019": Source(
        cited="Shcherbakov et al. 2019",
        authors="Kirill Shcherbakov, Egor Sevriugov, Mikhail Vasilkovsky, Egor Konyagin, "
        "Ekaterina Vorobyeva, Leonid Litovchenko",
        title="Stabilizing Gradients for Deep Neural Networks via Efficient SVD Parameterization",
        dated="report, 2019",
        about="the Spectral-RNN: recurrent weights in SVD form",
        behind=Paper(
            "Zhang, Lei and Dhillon 2018",
            "Stabilizing Gradients for Deep Neural Networks via Efficient SVD Parameterization",
            "ICML 2018",
            "https://arxiv.org/abs/1803.09327",
        ),
        link="https://github.com/waytobehigh/nla-proj",
    ),
    "keene-2022": Source(
        cited="Keene 2022",
        authors="Benjamin Keene",
        title="An Investigation of the Response of a Three-Layer Neural Network to Randomized SVD "
        "and Truncated SVD",
        dated="report, 2022",
        about="compressing weights while they are trained",
        behind=Paper(
            "Halko, Martinsson and Tropp 2011",
            "Finding Structure with Randomness: Probabilistic Algorithms for Constructing "
            "Approximate Matrix Decompositions",
            "SIAM Review 53",
            "https://arxiv.org/abs/0909.4061",
        ),
        link="https://github.com/benkeene/Compressed-Neural-Networks",
    ),
    "sarnayak-2020": Source(
        cited="Sarnayak et al. 2020",
        authors="Samyak S. Sarnayak, Abhijit Mohanty, Srinidhi Temkar",
        title="Deep Neural Networks and Accelerating them using Singular Value Decomposition",
        dated="report, 2020",
        about="SVD-DNN: training in two factors per layer after a dense start",
        behind=Paper(
            "Cai et al. 2014",
            "Fast Learning of Deep Neural Networks via Singular Value Decomposition",
            "PRICAI 2014",
            "https://doi.org/10.1007/978-3-319-13560-1_65",
        ),
    ),
    "siems-2025": Source(
        cited="Siems et al. 2025",
        authors="Julien Siems, Timur Carstensen, Arber Zela, Frank Hutter, Massimiliano Pontil, "
        "Riccardo Grazzi",
        title="DeltaProduct: Improving State-Tracking in Linear RNNs via Householder Products",
        dated="paper, 2025",
        about="DeltaProduct: several reflectors for each token",
        behind=Paper(
            "Siems et al. 2025",
            "DeltaProduct: Improving State-Tracking in Linear RNNs via Householder Products",
            "NeurIPS 2025",
            "https://arxiv.org/abs/2502.10297",
        ),
    ),
}


def lines_of(source: Source) -> list[str]:
    """A report and the paper behind it, a line each, with their addresses."""
    where = f", {source.link}" if source.link else ""
    paper = source.behind
    behind = "" if paper.title == source.title else f"{paper.title}, "
    return [
        f"{source.cited}: {source.authors}, {source.title} ({source.dated}){where}",
        f"  behind it: {paper.cited}, {behind}{paper.venue}, {paper.link}",
    ]
