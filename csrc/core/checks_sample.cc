// Values of the sampler: columns, biases, rows of counts.
#include <cmath>

#include "core/check_words.h"
#include "core/tiles.h"

namespace eyrie::checks {
namespace {

struct Column {
  const char* name;
  double low, high;
};
const Column kColumns[] = {
#define SAMPLING(name, initial, low, high, text) {#name, low, high},
#include "sampling.def"
#undef SAMPLING
};

void check_columns(const SampleArgs& a) {
  const char* op = "sample";
  for (int64_t r = 0; r < a.R; r++)
    for (int64_t k = 0; k < a.C; k++) {
      const Column& column = kColumns[k];
      const float x = floats(a.columns)[r * a.C + k];
      // Bounds are decimal; a float nearest to one is within it.
      if (!(x >= float(column.low) && x <= float(column.high)))
        fail_at(op, "columns", r, k, x,
                std::string(column.name) + " from " + text(column.low) + " to " + text(column.high));
      if (k == int64_t(SamplingColumn::top_k) && x != std::floor(x))
        fail_at(op, "columns", r, k, x, "an integer top_k");
    }
}

void check_bias(const SampleArgs& a) {
  const char* op = "sample";
  const int32_t* start = ints(a.bias_start);
  if (start[0] < 0) fail_at(op, "bias_start", 0, start[0], "0 or more");
  for (int64_t r = 0; r < a.R; r++)
    if (start[r + 1] < start[r]) fail_at(op, "bias_start", r + 1, start[r + 1], "at least " + std::to_string(start[r]));
  const int64_t L = a.bias_ids && a.bias_values ? a.L : 0;
  if (start[a.R] > L)
    fail_at(op, "bias_start", a.R, start[a.R],
            "at most L=" + std::to_string(L) + ", the length of bias_ids and bias_values");
  for (int64_t i = start[0]; i < start[a.R]; i++) {
    const int32_t id = ints(a.bias_ids)[i];
    if (id < 0 || id >= a.V) fail_at(op, "bias_ids", i, id, between("a token", 0, a.V));
    if (!std::isfinite(floats(a.bias_values)[i]))
      fail_at(op, "bias_values", i, floats(a.bias_values)[i], "a finite number");
  }
}

}  // namespace

void check_sample(const Call& call, bool values) {
  const auto a = sample_args(call);
  const char* op = "sample";
  if (a.R == 0) return;
  if (a.V == 0) fail(op, "logits has V=0, expected at least one token");
  equal(op, "the number of columns", a.C, int64_t(SamplingColumn::count), "csrc/sampling.def");
  if (values) check_columns(a);
  if (!a.counts != !a.counts_row) fail(op, "counts and counts_row go together: pass both or neither");
  if (values && a.counts_row) in_range(op, "counts_row", a.counts_row, "a row of counts (-1: none)", -1, a.U);
  if (values && a.bias_start) check_bias(a);
  else if (!a.bias_start && (a.bias_ids || a.bias_values))
    fail(op, "bias_start is missing, but bias_ids or bias_values is given");
  if (a.mask) equal(op, "the number of words in a row of mask", a.W, div_up(a.V, 32), "32 tokens a word");
  if ((a.top_ids || a.top_logprobs) && a.K > a.V)
    fail(op, "top_ids has K=" + std::to_string(a.K) + ", expected at most V=" + std::to_string(a.V));
}

}  // namespace eyrie::checks
