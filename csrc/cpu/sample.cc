// sample. Rows are cut into slices of 4096 tokens; a worker takes slices, so that one row occupies them all. Phases, with a
// barrier between them:
//   1  slices  logits -> z (penalties, bias, mask, temperature), maxima, sums for the logprobs; a row without filters is
//              drawn here and now
//   2  slices  total weight of what min-p leaves, for top-p without top-k
//   3  rows    the cut (value, id) behind the last token that the filters keep
//   4  slices  draws of the filtered rows
//   5  rows    the best of the slices; logprobs; the best K raw tokens
// Slices are fixed, weights are integers, keys compare by (key, lowest id): nothing depends on the number of workers.
#include "cpu/sample_noise.h"
#include "cpu/sample_select.h"

namespace eyrie::cpu::EYRIE_LEVEL {

namespace {

constexpr int64_t kSlice = 4096;
constexpr int64_t kSliceBlocks = kSlice / kBlock64;
constexpr int64_t kRowGroup = 4;  // rows that go through the phases together (bounds the scratch)

struct SliceStats {
  float raw_max, raw_sum;  // sum of e^(x - raw_max)
  float z_max;
  Best best;
  uint64_t weight;
};

struct RowOptions {
  float temperature, top_p, min_p, repetition, frequency, presence;
  int64_t top_k;  // V: all
  const float* x;
  const uint16_t* counts;  // null: no penalties
  const uint32_t* mask;
  int32_t bias_begin, bias_end;
  NoiseKey key;
  bool greedy, filtered;
};

RowOptions row_options(const SampleArgs& a, int64_t r) {
  const float* c = (const float*)a.columns->data + r * a.C;
  const auto column = [c](SamplingColumn k) { return c[int(k)]; };
  RowOptions o;
  o.temperature = column(SamplingColumn::temperature);
  o.top_p = column(SamplingColumn::top_p);
  o.min_p = column(SamplingColumn::min_p);
  o.repetition = column(SamplingColumn::repetition_penalty);
  o.frequency = column(SamplingColumn::frequency_penalty);
  o.presence = column(SamplingColumn::presence_penalty);
  const float k = column(SamplingColumn::top_k);
  o.top_k = k >= 1 && k < float(a.V) ? int64_t(k) : a.V;
  o.x = (const float*)a.logits->data + r * a.logits->stride[0];
  const int32_t row = a.counts_row ? ((const int32_t*)a.counts_row->data)[r] : -1;
  const bool penalties = o.repetition != 1 || o.frequency != 0 || o.presence != 0;
  o.counts = a.counts && row >= 0 && penalties ? (const uint16_t*)a.counts->data + row * a.V : nullptr;
  o.mask = a.mask ? (const uint32_t*)a.mask->data + r * a.W : nullptr;
  o.bias_begin = a.bias_start ? ((const int32_t*)a.bias_start->data)[r] : 0;
  o.bias_end = a.bias_start ? ((const int32_t*)a.bias_start->data)[r + 1] : 0;
  const uint32_t* key = (const uint32_t*)a.keys->data + r * 4;
  o.key = {key[0], key[1], key[2]};
  o.greedy = o.temperature == 0;
  o.filtered = !o.greedy && (o.top_k < a.V || o.top_p < 1 || o.min_p > 0);
  return o;
}

// vLLM's: repetition counts the prompt and the output, the others the output.
EYRIE_INLINE V16 penalise(const RowOptions& o, V16 y, V16 count) {
  const V16 top = v_set1(32768.0f), rep = v_set1(o.repetition);
  const V16 repeated = v_select_lt(v_zero(), y, v_div(y, rep), v_mul(y, rep));
  y = v_select_lt(v_zero(), count, repeated, y);
  const V16 n = v_select_lt(count, top, count, v_sub(count, top));
  y = v_fma(v_set1(-o.frequency), n, y);
  return v_select_lt(v_zero(), n, v_sub(y, v_set1(o.presence)), y);
}

EYRIE_INLINE float max_of_block(const float* x) {
  return v_reduce_max(v_max(v_max(v_load(x), v_load(x + 16)), v_max(v_load(x + 32), v_load(x + 48))));
}

// Maxima of the raw blocks and the sum of exponentials.
__attribute__((noinline)) void raw_slice(const float* x, int64_t n, float* maxima, SliceStats* s) {
  float high = -kMost;
  for (int64_t i = 0; i < n; i += kBlock64) {
    V16 m = v_set1(-__builtin_inff());
    for (int k = 0; k < kBlock64; k += 16) m = v_max(m, load_logits(x + i + k, n - i - k));
    maxima[i / kBlock64] = v_reduce_max(m);
    high = maxima[i / kBlock64] > high ? maxima[i / kBlock64] : high;
  }
  V16 sum = v_zero();
  for (int64_t i = 0; i < n; i += 16) sum = v_add(sum, v_exp(v_sub(load_logits(x + i, n - i), v_set1(high))));
  s->raw_max = high;
  s->raw_sum = v_reduce_add(sum);
}

// z of one slice (padded with -inf to blocks) and its block maxima.
__attribute__((noinline)) void adjust_slice(const SampleArgs& a, const RowOptions& o, int64_t begin, int64_t n,
                                            float* z, float* maxima, SliceStats* s) {
  const float* x = o.x + begin;
  const bool staged = o.counts || o.bias_begin < o.bias_end;
  if (staged) {
    for (int64_t i = 0; i < n; i += 16) {
      V16 y = load_logits(x + i, n - i);
      if (o.counts) {
        uint16_t tail[16] = {};
        const uint16_t* c = o.counts + begin + i;
        if (n - i < 16) {
          for (int k = 0; k < int(n - i); k++) tail[k] = c[k];
          c = tail;
        }
        y = penalise(o, y, v_load_u16(c));
      }
      v_store(z + i, y);
    }
    for (int32_t k = o.bias_begin; k < o.bias_end; k++) {
      const int64_t id = ((const int32_t*)a.bias_ids->data)[k] - begin;
      if (id >= 0 && id < n) z[id] += ((const float*)a.bias_values->data)[k];
    }
    x = z;
  }
  const V16 scale = v_set1(o.greedy ? 1.0f : 1.0f / o.temperature);
  float high = -__builtin_inff();
  for (int64_t i = 0; i < n; i += kBlock64) {
    for (int k = 0; k < kBlock64; k += 16) {
      const int64_t left = n - i - k;
      V16 y = load_logits(x + i + k, left);
      if (o.mask && left > 0) {
        const int64_t t = begin + i + k;
        y = v_select_bits(o.mask[t / 32] >> (t % 32) & 0xffff, y, v_set1(-__builtin_inff()));
      }
      v_store(z + i + k, v_min(v_set1(kMost), v_mul(y, scale)));
    }
    const float m = maxima[i / kBlock64] = max_of_block(z + i);
    high = m > high ? m : high;
  }
  s->z_max = high;
}

// The best token of a slice: by z (greedy) or by z + noise.
__attribute__((noinline)) Best draw_slice(const RowOptions& o, int64_t begin, int64_t n, const float* z,
                                          const float* maxima, Cut cut) {
  Best best{-__builtin_inff(), -1};
  const int64_t blocks = div_up(n, kBlock64), block0 = begin / kBlock64;
  int64_t top = 0;
  for (int64_t i = 1; i < blocks; i++)
    if (maxima[i] > maxima[top]) top = i;
  if (o.greedy) {
    if (maxima[top] == -__builtin_inff()) return best;
    for (int i = 0; i < kBlock64; i++)
      if (z[top * kBlock64 + i] == maxima[top]) return {maxima[top], int32_t((block0 + top) * kBlock64 + i)};
    return best;
  }
  draw_block(o.key, uint32_t(block0 + top), z + top * kBlock64, maxima[top], cut, &best);  // a high bar for the others
  for (int64_t i = 0; i < blocks; i++)
    if (i != top) draw_block(o.key, uint32_t(block0 + i), z + i * kBlock64, maxima[i], cut, &best);
  return best;
}

EYRIE_INLINE float log_of(float x) {
  float r[16];
  v_store(r, v_log(v_set1(x)));
  return r[0];
}

EYRIE_INLINE float min_p_floor(const RowOptions& o, float top) {
  if (o.min_p <= 0) return -__builtin_inff();
  return o.min_p < 1.17549435e-38f ? top - 88.0f : top + log_of(o.min_p);
}

// Total weight of the tokens of a slice that reach `floor`. A weight below 2^40 is split into two 20-bit halves, whose sums
// over 256 vectors fit their lanes.
__attribute__((noinline)) uint64_t slice_weight(const float* z, int64_t n, float top, float floor) {
  I16 high = i_set1(0), low = i_set1(0);
  for (int64_t i = 0; i < n; i += 16) {  // z is padded with -inf
    const V16 x = v_load(z + i), scale = v_set1(0x1p20f);
    const V16 w = v_mul(v_select_lt(x, v_set1(floor), v_zero(), v_exp(v_sub(x, v_set1(top)))), scale);
    const I16 h = i_truncate(w);
    high = i_add(high, h);
    low = i_add(low, i_truncate(v_mul(v_sub(w, v_from_int(h)), scale)));
  }
  uint32_t h[16], l[16];
  i_store(h, high);
  i_store(l, low);
  uint64_t sum = 0;
  for (int i = 0; i < 16; i++) sum += (uint64_t(h[i]) << 20) + l[i];
  return sum;
}

EYRIE_INLINE bool needs_weight(const SampleArgs& a, const RowOptions& o) {
  return o.filtered && o.top_p < 1 && o.top_k == a.V;
}

EYRIE_INLINE uint64_t nucleus(const RowOptions& o, uint64_t total) { return uint64_t(double(o.top_p) * double(total)); }

// Where the filters cut: min-p, then top-k, then top-p over what is left. total: the weight of what min-p leaves.
__attribute__((noinline)) Cut find_cut(const SampleArgs& a, const RowOptions& o, const float* z, const float* maxima,
                                       float top, uint64_t total, uint64_t* words, uint64_t* more) {
  const float floor = min_p_floor(o, top);
  if (o.top_k == a.V && o.top_p >= 1) return {floor, 0x7fffffff};
  const int64_t blocks = div_up(a.V, kBlock64);
  float least = o.top_k < a.V ? selection_floor(maxima, blocks, o.top_k, words, more) : -__builtin_inff();
  if (o.top_k == a.V) {
    // All tokens of weight below (1 - p) total / V together weigh less than (1 - p) total: none of them is in the nucleus.
    const float rest = (1 - o.top_p) * float(total) / (0x1p40f * float(a.V));
    if (rest > 1e-30f) least = top + log_of(rest) - 1e-3f - 1e-6f * (top < 0 ? -top : top);
  }
  least = least > floor ? least : floor;
  if (least == -__builtin_inff()) least = -kMost;
  int64_t n = gather_above(z, a.V, maxima, least, words);
  if (n == 0) return {-kMost, 0x7fffffff};
  uint64_t last;
  if (o.top_k == a.V) {
    last = last_to_weight(words, more, n, top, nucleus(o, total));
  } else {
    const uint64_t* sorted = radix_sort(words, more, n);
    n = n < o.top_k ? n : o.top_k;
    if (o.top_p < 1) {
      uint64_t w[16];
      total = 0;
      for (int64_t i = 0; i < n; i += 16) {
        weights16(sorted + i, n - i, top, w);
        for (int k = 0; k < 16; k++) total += w[k];
      }
      n = count_to_weight(sorted, n, top, nucleus(o, total));
    }
    last = sorted[n - 1];
  }
  return {unpack_value(last), unpack_index(last)};
}

// log sum e^x from the slices' (max, sum), in order.
EYRIE_INLINE float log_sum(const SliceStats* s, int64_t slices) {
  float top = -kMost;
  for (int64_t i = 0; i < slices; i++) top = s[i].raw_max > top ? s[i].raw_max : top;
  float sum = 0;
  for (int64_t i = 0; i < slices; i++) {
    float e[16];
    v_store(e, v_exp(v_set1(s[i].raw_max - top)));
    sum = s_fma(s[i].raw_sum, e[0], sum);
  }
  return sum > 0 ? top + log_of(sum) : -__builtin_inff();
}

struct Scratch {
  int64_t slices, blocks, width;  // of a row; width: V padded to slices
  SliceStats* stats;  // [kRowGroup][slices]
  float* z;  // [kRowGroup][width]; null where no row has filters
  float *maxima, *raw_maxima;  // [kRowGroup][blocks]
  Cut* cuts;  // [kRowGroup]
  float* slice;  // of this worker: [kSlice], z of a row that is drawn slice by slice
  uint64_t *words, *more;  // of this worker: [V + 64]
};

EYRIE_INLINE float row_top(const Scratch& x, int64_t i) {
  float top = -__builtin_inff();
  for (int64_t s = 0; s < x.slices; s++)
    top = x.stats[i * x.slices + s].z_max > top ? x.stats[i * x.slices + s].z_max : top;
  return top;
}

__attribute__((noinline)) void finish_row(const SampleArgs& a, const RowOptions& o, const Scratch& x, int64_t i,
                                          int64_t r) {
  const SliceStats* s = x.stats + i * x.slices;
  Best best{-__builtin_inff(), -1};
  for (int64_t k = 0; k < x.slices; k++)
    if (s[k].best.id >= 0 && (best.id < 0 || better(s[k].best.key, s[k].best.id, best))) best = s[k].best;
  ((int32_t*)a.ids->data)[r] = best.id;  // -1: nothing is allowed, or all is NaN; the host raises
  const float lse = a.logprobs || a.top_logprobs ? log_sum(s, x.slices) : 0;
  if (a.logprobs) ((float*)a.logprobs->data)[r] = best.id < 0 ? -__builtin_inff() : clean_logit(o.x[best.id]) - lse;
  if ((!a.top_ids && !a.top_logprobs) || a.K == 0) return;
  const float* maxima = x.raw_maxima + i * x.blocks;
  const float floor = selection_floor(maxima, div_up(a.V, kBlock64), a.K, x.words, x.more);
  const int64_t n = gather_above(o.x, a.V, maxima, floor, x.words);
  const uint64_t* sorted = radix_sort(x.words, x.more, n);
  for (int64_t k = 0; k < a.K; k++) {
    if (a.top_ids) ((int32_t*)a.top_ids->data)[r * a.K + k] = unpack_index(sorted[k]);
    if (a.top_logprobs) ((float*)a.top_logprobs->data)[r * a.K + k] = unpack_value(sorted[k]) - lse;
  }
}

void sample_group(const SampleArgs& a, const Scratch& x, int64_t r0, int64_t rows, Team& team) {
  const bool raw = a.logprobs || a.top_ids || a.top_logprobs;
  const Cut everything{-__builtin_inff(), 0x7fffffff};
  RowOptions options[kRowGroup];
  bool filtered = false, weigh = false;
  for (int64_t i = 0; i < rows; i++) {
    options[i] = row_options(a, r0 + i);
    filtered |= options[i].filtered;
    weigh |= needs_weight(a, options[i]);
  }
  const Range slices = team_range(team, rows * x.slices), own = team_range(team, rows);
  for (int64_t k = slices.begin; k < slices.end; k++) {
    const int64_t i = k / x.slices, begin = k % x.slices * kSlice, n = a.V - begin < kSlice ? a.V - begin : kSlice;
    const RowOptions& o = options[i];
    SliceStats* s = x.stats + k;
    float *z = o.filtered ? x.z + i * x.width + begin : x.slice, *maxima = x.maxima + i * x.blocks + begin / kBlock64;
    if (raw) raw_slice(o.x + begin, n, x.raw_maxima + i * x.blocks + begin / kBlock64, s);
    adjust_slice(a, o, begin, n, z, maxima, s);
    if (!o.filtered) s->best = draw_slice(o, begin, n, z, maxima, everything);
  }
  team.barrier();
  if (filtered) {
    if (weigh) {
      for (int64_t k = slices.begin; k < slices.end; k++) {
        const int64_t i = k / x.slices, begin = k % x.slices * kSlice, n = a.V - begin < kSlice ? a.V - begin : kSlice;
        if (!needs_weight(a, options[i])) continue;
        const float top = row_top(x, i);
        x.stats[k].weight = slice_weight(x.z + i * x.width + begin, n, top, min_p_floor(options[i], top));
      }
      team.barrier();
    }
    for (int64_t i = own.begin; i < own.end; i++) {
      if (!options[i].filtered) continue;
      uint64_t total = 0;
      if (needs_weight(a, options[i]))
        for (int64_t s = 0; s < x.slices; s++) total += x.stats[i * x.slices + s].weight;
      x.cuts[i] =
          find_cut(a, options[i], x.z + i * x.width, x.maxima + i * x.blocks, row_top(x, i), total, x.words, x.more);
    }
    team.barrier();
    for (int64_t k = slices.begin; k < slices.end; k++) {
      const int64_t i = k / x.slices, begin = k % x.slices * kSlice, n = a.V - begin < kSlice ? a.V - begin : kSlice;
      if (!options[i].filtered) continue;
      x.stats[k].best = draw_slice(options[i], begin, n, x.z + i * x.width + begin,
                                   x.maxima + i * x.blocks + begin / kBlock64, x.cuts[i]);
    }
    team.barrier();
  }
  for (int64_t i = own.begin; i < own.end; i++) finish_row(a, options[i], x, i, r0 + i);
}

}  // namespace

void sample(const Call& call, Team& team) {
  const auto a = sample_args(call);
  if (a.R == 0) return;
  Scratch x;
  x.slices = div_up(a.V, kSlice);
  x.width = x.slices * kSlice;
  x.blocks = x.slices * kSliceBlocks;
  const int64_t group = a.R < kRowGroup ? a.R : kRowGroup;
  const int64_t stats = div_up(group * x.slices * int64_t(sizeof(SliceStats)), 64) * 64;
  const int64_t cuts = div_up(group * int64_t(sizeof(Cut)), 64) * 64;
  bool filtered = false;
  for (int64_t r = 0; r < a.R; r++) filtered |= row_options(a, r).filtered;
  const int64_t floats = group * ((filtered ? x.width : 0) + 2 * x.blocks);
  char* shared = (char*)team.shared(size_t(stats + cuts + floats * int64_t(sizeof(float))));
  x.stats = (SliceStats*)shared;
  x.cuts = (Cut*)(shared + stats);
  x.maxima = (float*)(shared + stats + cuts);
  x.raw_maxima = x.maxima + group * x.blocks;
  x.z = filtered ? x.raw_maxima + group * x.blocks : nullptr;
  x.slice = (float*)team.local(kSlice * sizeof(float));
  x.words = (uint64_t*)team.local(size_t(2 * (a.V + 64)) * sizeof(uint64_t));
  x.more = x.words + a.V + 64;
  for (int64_t r = 0; r < a.R; r += group) {
    if (r > 0) team.barrier();  // the scratch of the group before is free
    sample_group(a, x, r, a.R - r < group ? a.R - r : group, team);
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
