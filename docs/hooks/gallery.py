"""The gallery: every plot of the reference results, with what it shows and what made it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = Path("results/reference")
# What stands under the plots of our own runs, by their place below results/reference.
CAPTIONS = {
    "bench-reveal/rank-reveal/frontier/frontier.png": "Loss against the share of weights kept, "
    "for five ways to choose the ranks",
    "bench-reveal/rank-reveal/three_layer/frontier.png": "The same for Keene's three-layer network",
    "bench-reveal/rank-reveal/three_layer/curves.png": "Loss against the rank of each weight, the "
    "others dense",
    "accelerate-when/when/when.png": "Speed of one layer of low rank over widths, rows and α",
    "accelerate/low_rank_mnist/loss_over_seconds.png": "Loss over seconds on MNIST: SVD-DNN, the "
    "dense network and smaller ones",
    "accelerate/factors_mnist/loss_over_seconds.png": "The same for random factors",
    "accelerate/factors_mnist/loss.png": "Random factors and the dense network over rounds",
    "accelerate/moments_mnist/loss.png": "Moments carried over to the factors, and new ones",
    "accelerate/byte-lm/loss_over_seconds.png": "Loss over seconds of a byte-level transformer",
    "accelerate/byte-lm/loss.png": "The same over rounds, low rank and the dense network",
    "accelerate/byte-lm-256/loss_over_seconds.png": "The same at width 256, five seeds",
    "accelerate/byte-lm-256/loss.png": "Its low-rank arms and the dense network",
    "accelerate/low_rank_mnist/loss.png": "The same over rounds, SVD-DNN and the dense network",
    "time-compressors/gpt2/loss_by_budget.png": "Loss against the share of weights kept, for "
    "eight ways to compress a small GPT-2",
    "time-compressors/llama/loss_by_budget.png": "The same for a small Llama, nine ways",
    "time-compressors/minilm/loss_by_budget.png": "Three ways for all weights of a "
    "sentence encoder",
    "time-compressors/minilm-linear/loss_by_budget.png": "The same for the linear layers of a "
    "sentence encoder, three ways",
    "time-compressors/pitch-tiny/loss_by_budget.png": "Loss against the share of weights "
    "kept, for nine ways to compress a pitch tracker",
    "time-compressors/pitch-full/loss_by_budget.png": "Three ways for a larger pitch tracker",
    "bench-rnn/train/pixels-784-lstm/accuracy.png": "Accuracy of an LSTM on permuted MNIST, with "
    "searched settings",
    "bench-rnn/train/pixels-784-lstm/loss.png": "Its loss",
    "time-compressors/speaker/loss_by_budget.png": "The same for five ways to compress an LSTM",
    "time-fasth/step_time.png": "Time of a gradient step against the size of the matrix",
    "time-fasth/ratio_to_fasth.png": "The same, as a multiple of FastH's time",
    "time-fasth/times_floor.png": "Time of a step over the matrix-multiply floor",
    "time-layers/step_time.png": "Time of a training step of one layer against its width",
    "time-layers/ratio_to_linear.png": "The same, as a multiple of nn.Linear's time",
    "tune/best_block.png": "Best block size, measured and by the cost model",
    "tune/step_time.png": "Time of a step against the block size",
    "tune/regret.png": "What rules of thumb for the block size lose",
    "bench-lowrank/time-svd/drivers/time_against_error.png": "Time of truncated SVDs against "
    "their error",
    "bench-lowrank/compress/corrected/training.png": "Training with compression, beside the dense "
    "network",
    "bench-lowrank/accelerate/twice/loss.png": "Loss of SVD-DNN and of the dense network",
    "bench-lowrank/accelerate/twice/speed.png": "Speed of SVD-DNN against its ceiling",
    "bench-rnn/train/pmnist-preset/accuracy.png": "Accuracy of a Spectral-RNN on permuted MNIST",
    "bench-rnn/train/pmnist-preset/loss.png": "Its loss",
    "bench-rnn/train/defaults/loss.png": "Loss of a Spectral-RNN on the adding task",
}


def gallery_page() -> str:
    """Plots of our runs, then those of the published results, each linked to its source."""
    from svdbench.jobs.reproduce.result import SOURCES, all_results

    lines = ["## Our own runs", "", '<div class="gallery" markdown="1">', ""]
    for place, caption in CAPTIONS.items():
        if (ROOT / REFERENCE / place).is_file():
            folder = (REFERENCE / place).parent
            lines += _figure(REFERENCE / place, caption, f"[run](../{folder.as_posix()})")
    lines += ["</div>"]
    for key, source in SOURCES.items():
        lines += ["", f"## {source.cited}", "", '<div class="gallery" markdown="1">', ""]
        for result in all_results():
            folder = REFERENCE / "reproduce" / result.name
            page = f"[{result.title}](../{folder.as_posix()}/README.md): {result.verdicts['full']}"
            for figure in result.figures if result.source == key else ():
                path = folder / f"{figure.name}.png"
                if (ROOT / path).is_file():
                    lines += _figure(path, figure.title, page)
        lines += ["</div>"]
    return "\n".join(lines)


def _figure(path: Path, caption: str, more: str) -> list[str]:
    picture = f"![{caption}](../{path.as_posix()}){{ loading=lazy }}"
    return [
        '<figure markdown="1">',
        "",
        picture,
        "",
        '<figcaption markdown="1">',
        "",
        f"{caption} ({more})",
        "",
        "</figcaption>",
        "</figure>",
        "",
    ]
