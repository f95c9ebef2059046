"""Time the loop of a recurrent network over T steps, forward and backward.

Of the Spectral-RNN: reflectors one by one at every step, FastH at every
step, W built once. Beside them torch.nn.RNN, LSTM and GRU. One step is all
states of 128 sequences with the gradients in the inputs and all parameters.
No way gets a number unless it agrees with float64, before its timing and
after.

Writes results/time-rnn/NAME: every sample and a summary as CSV, the
environment, the configuration, and plots.
"""

from svdbench.job import Job
from svdbench.jobs.time_rnn.config import TimeRNN

JOB = Job("time-rnn", TimeRNN, __name__)
