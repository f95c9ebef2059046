"""Time the loop of a recurrent network over T steps, forward and backward.

The Spectral-RNN is timed with single reflectors at every step, with FastH at every step, and with
W built once per pass, and compared with torch.nn.RNN, LSTM and GRU. One repetition computes all
states of 128 sequences, and the gradients with respect to the inputs and all parameters. Every
implementation is checked against float64 before and after its timing; one that fails gets no time.

Writes results/time-rnn/NAME: CSV tables of all samples and a summary, plots, the
configuration and the environment.

Examples:
    svdbench time-rnn --quick
    svdbench time-rnn --hidden 128 --length 100,1000 --methods spectral,torch_lstm
"""

from svdbench.job import Job
from svdbench.jobs.time_rnn.config import TimeRNN

JOB = Job("time-rnn", TimeRNN, __name__, panel="Timing", place=4)
