"""Limits of the one vLLM that the whole suite shares, small enough that tests reach them."""

MAX_MODEL_LEN = 512
BLOCK_SIZE = 32
TOKEN_BUDGET = 48  # of one step: smaller than most prompts, so that every test runs under chunked prefill
MAX_NUM_SEQS = 8
