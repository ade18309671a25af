// Checks and times csrc/cuda/gemm_sm90a.cuh on a Hopper GPU, by itself:
//
//   nvcc -std=c++20 -O3 -I csrc -gencode=arch=compute_90a,code=sm_90a csrc/tools/gemm_test.cu -o build/gemm-test
//   build/gemm-test [--variant a,b,…] [--check | --time | --quick] [--bf16] [--chained] [--json FILE] [--list]
//
// Each variant runs in a process of its own: a kernel that hangs reports which barrier it waited for, traps, and the next goes on.
#define EYRIE_BARRIER_SECONDS 2
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cuda/gemm_sm90a.cuh"
#include "tools/gemm_report.h"
#include "tools/gemm_test.h"

using namespace eyrie;
using namespace eyrie::cuda;

namespace {

using Launch = bool (*)(Context&, const void*, int64_t, int, const WeightView&, const GemmEpilogue&, uint32_t*, int);
struct Variant {
  const char* name;
  bool ranges;
  int tokens, outputs;  // of a block
  int shared;
  Launch launch;
};
template <int tokens, int consumers, int stages, int cluster, bool ranges, bool boxed = true>
constexpr Variant variant(const char* name) {
  using S = GemmShape<tokens, consumers, stages, cluster, ranges, boxed>;
  return {name, ranges, tokens, S::outputs, S::shared_bytes, launch_gemm<S>};
}
// r: ranges, c: one chain; tokens; x3: three consumers (192 outputs); -2: clusters of two blocks that share x;
// -s5: five stages, one strip; -1d: weights without a tensor map
const Variant kVariants[] = {
    variant<192, 2, 4, 1, true>("r192"),
    variant<192, 2, 5, 1, true>("r192-s5"),
    variant<192, 2, 4, 2, true>("r192-2"),
    variant<128, 2, 6, 1, true>("r128"),
    variant<128, 2, 6, 2, true>("r128-2"),
    variant<128, 3, 4, 1, true>("r128x3"),
    variant<64, 2, 7, 1, true>("r64"),
    variant<256, 2, 4, 1, false>("c256"),
    variant<256, 2, 4, 2, false>("c256-2"),
    variant<192, 3, 4, 1, false>("c192x3"),
    variant<128, 2, 6, 1, false>("c128"),
    variant<64, 2, 7, 1, false>("c64"),
    variant<192, 2, 4, 1, true, false>("r192-1d"),
    variant<256, 2, 4, 1, false, false>("c256-1d"),
};

struct Options {
  bool check = true, time = true, quick = false, bf16_out = false, chained = false;
};
Context context;
bool failed = false;

void launch_or_fail(const Variant& v, const void* x, int64_t stride, int m, const WeightView& w, const GemmEpilogue& e,
                    int group = 0) {
  if (v.launch(context, x, stride, m, w, e, hang_words, group)) return;
  printf("FAILED %s: not launched (a tensor map was refused)\n", v.name);
  exit(3);
}

// ---- what went wrong ----

// x picks one input a row, w numbers its outputs or inputs: the product says which elements met.
void probe(const Variant& v) {
  const int m = std::min(256, v.tokens + 64), n = 256, k = 256;
  Device<uint16_t> x(m * k), w(packed(n, k));
  Device<float> out(m * n);
  std::vector<float> outputs(m * n), inputs(m * n);
  fill_x<<<64, 256>>>(x.at, m, k, k, 0, true);
  for (const Fill fill : {Fill::output_number, Fill::input_number}) {
    pack(w.at, n, k, fill, 0);
    fill_words<<<64, 256>>>(reinterpret_cast<uint32_t*>(out.at), m * n, kPoison);
    GemmEpilogue e;
    e.out = out.at, e.out_stride = n;
    launch_or_fail(v, x.at, k, m, view(w.at, n, k), e);
    finish();
    float* to = (fill == Fill::output_number ? outputs : inputs).data();
    MUST(cudaMemcpy(to, out.at, m * n * 4, cudaMemcpyDefault));
  }
  int wrong = 0;
  for (int i = 0; i < m * n; i++) {
    const int row = i / n, column = i % n;
    if (outputs[i] == column && inputs[i] == row) continue;
    if (wrong++ < 12)
      printf("  probe: out[%d][%d] = w[%g][%g]; should be w[%d][%d]\n", row, column, outputs[i], inputs[i], column,
             row);
  }
  if (wrong) {
    int transposed = 0;
    for (int i = 0; i < m * n; i++) transposed += outputs[i] == i / n && inputs[i] == i % n;
    printf(
        "%-7s PROBE FAILED: %d of %d elements (fractions or sums of numbers: several inputs met one); %d as if "
        "transposed\n",
        v.name, wrong, m * n, transposed);
    failed = true;
  } else {
    printf("%-7s probe fine\n", v.name);
  }
}

void explain(const Expected& want, const Tally& t) {
  std::vector<float> ref(int64_t(want.m) * want.n), all(int64_t(want.rows) * want.e.out_stride);
  MUST(cudaMemcpy(ref.data(), want.sums, ref.size() * 4, cudaMemcpyDefault));
  if (want.e.out_type != DType::f32 || want.e.bias || want.residual) {
    printf("  first wrong element: [%llu][%llu]\n", t.first / want.n, t.first % want.n);
    return;
  }
  MUST(cudaMemcpy(all.data(), want.e.out, all.size() * 4, cudaMemcpyDefault));
  int shown = 0;
  std::vector<int64_t> by_row(64), by_column(64);
  for (int64_t i = 0; i < int64_t(ref.size()); i++) {
    const int64_t m = i / want.n, n = i % want.n;
    const float got = all[m * want.e.out_stride + n];
    if (std::abs(got - ref[i]) <= want.slack) continue;
    by_row[m % 64]++, by_column[n % 64]++;
    if (shown++ >= 8) continue;
    printf("  [%ld][%ld] is %.9g, should be %.9g", long(m), long(n), got, ref[i]);
    for (int64_t j = 0, found = 0; j < int64_t(ref.size()) && found < 2; j++)
      if (std::abs(ref[j] - got) <= std::abs(got) * 1e-6f && std::abs(got) > 0.01f)
        printf(found++ ? ", [%ld][%ld]" : "; that is the value of [%ld][%ld]", long(j / want.n), long(j % want.n));
    printf("\n");
  }
  printf("  wrong by row %% 64:   ");
  for (const int64_t c : by_row) printf(" %ld", long(c));
  printf("\n  wrong by output %% 64:");
  for (const int64_t c : by_column) printf(" %ld", long(c));
  printf("\n");
}

// ---- checks ----

struct Check {
  int m, n, k;
  bool bias = false;
  int residual = 0;  // 0 none, 1 f32, 2 bf16, 3 f32 in place
  bool bf16_out = false;
  int pad = 0;  // elements between the rows of x (times 8), out and residual
};

void check(const Variant& v, const Check& c) {
  const int rows = c.m + 3;
  const int64_t stride = (c.k + 7) / 8 * 8 + 8 * c.pad, out_stride = c.n + c.pad, seed = c.m * 131 + c.n * 17 + c.k;
  const DType out_type = c.bf16_out ? DType::bf16 : DType::f32;
  Device<uint16_t> x(c.m * stride), w(packed(c.n, c.k)), residual16(c.residual == 2 ? rows * out_stride : 1);
  Device<float> out(rows * out_stride), sums(int64_t(c.m) * c.n), bias(c.n), residual(rows * out_stride);
  Device<Tally> tally(1);
  fill_x<<<1024, 256>>>(x.at, c.m, c.k, stride, seed, false);
  pack(w.at, c.n, c.k, Fill::random, seed + 1);
  fill_floats<<<64, 256>>>(bias.at, c.n, 7);
  fill_floats<<<1024, 256>>>(residual.at, rows * out_stride, 8);
  fill_words<<<1024, 256>>>(reinterpret_cast<uint32_t*>(out.at), rows * out_stride, kPoison);
  const WeightView wv = view(w.at, c.n, c.k);
  GemmEpilogue e;
  e.bias = c.bias ? bias.at : nullptr;
  e.out = out.at, e.out_type = out_type, e.out_stride = out_stride;
  e.residual_stride = out_stride;
  if (c.residual == 1) e.residual = residual.at;
  if (c.residual == 2) {
    fill_x<<<1024, 256>>>(residual16.at, rows, int(out_stride), out_stride, 9, false);
    e.residual = residual16.at, e.residual_type = DType::bf16;
  }
  Expected want{sums.at, e, e.residual, c.m, c.n, rows, 1e-4f + 1.4e-5f * c.k};
  if (c.residual == 3) {  // only the rows that are computed, so that the rest stays poison
    MUST(cudaMemcpy2D(out.at, out_stride * 4, residual.at, out_stride * 4, c.n * 4, c.m, cudaMemcpyDefault));
    e.residual = out.at, want.residual = residual.at;
  }
  const dim3 grid(wv.panels, unsigned(div_up(c.m, 32)));
  (v.ranges ? mma_reference<true> : mma_reference<false>)<<<grid, 128>>>(
      x.at, stride, c.m, c.k, wv, v.ranges ? gemm_range_blocks(wv.blocks) : wv.blocks, sums.at);
  finish();
  launch_or_fail(v, x.at, stride, c.m, wv, e);
  finish();
  MUST(cudaMemset(tally.at, 0, sizeof(Tally)));
  MUST(cudaMemset(&tally.at->first, 0xff, 8));
  compare<<<1024, 256>>>(want, tally.at);
  const int64_t count = int64_t(c.m) * c.n, every = std::max<int64_t>(1, count * c.k / (int64_t(1) << 32));
  check_double<<<1024, 256>>>(x.at, stride, c.k, Fill::random, seed + 1, want, every, tally.at);
  finish();
  Tally t;
  MUST(cudaMemcpy(&t, tally.at, sizeof t, cudaMemcpyDefault));
  float worst;
  memcpy(&worst, &t.worst, 4);
  const bool bad = t.wrong || t.outside || t.poison || !(worst < (c.bf16_out ? 5e-3f : 1e-5f));
  const char* residuals[] = {"", " +f32", " +bf16", " +in place"};
  printf(
      "%-7s %5d x %5d x %5d %s%s%s%s: %s; differs from mma.sync: %llu of %ld, <= %u ulp; worst error / |products| "
      "%.2g\n",
      v.name, c.m, c.n, c.k, c.bf16_out ? "bf16" : "f32", c.bias ? " +bias" : "", residuals[c.residual],
      c.pad ? " padded" : "", bad ? "WRONG" : "ok", t.differ, long(count), t.ulps, worst);
  printf(
      "JSON "
      "{\"variant\":\"%s\",\"kind\":\"check\",\"m\":%d,\"n\":%d,\"k\":%d,\"ok\":%d,\"wrong\":%llu,\"unwritten\":%llu,"
      "\"outside\":%llu,\"differ\":%llu,\"of\":%ld,\"ulps\":%u,\"worst\":%g}\n",
      v.name, c.m, c.n, c.k, int(!bad), t.wrong, t.poison, t.outside, t.differ, long(count), t.ulps, worst);
  if (bad) {
    printf("  wrong %llu, never written %llu, written outside %llu\n", t.wrong, t.poison, t.outside);
    if (t.wrong) explain(want, t);
    failed = true;
  }
  fflush(stdout);
}

// The same product again and again, and for the first rows only: the bits must stay.
void check_stable(const Variant& v, int m, int n, int k, int fewer) {
  Device<uint16_t> x(int64_t(m) * k), w(packed(n, k));
  Device<float> first(int64_t(m) * n), again(int64_t(m) * n);
  Device<Tally> tally(1);
  fill_x<<<1024, 256>>>(x.at, m, k, k, 3, false);
  pack(w.at, n, k, Fill::random, 4);
  for (int i = 0; i < 12; i++) {
    const int rows = i < 10 ? m : fewer;
    GemmEpilogue e;
    e.out = i ? again.at : first.at, e.out_stride = n;
    fill_words<<<1024, 256>>>(static_cast<uint32_t*>(e.out), int64_t(m) * n, kPoison);
    launch_or_fail(v, x.at, k, rows, view(w.at, n, k), e);
    if (!i) continue;
    MUST(cudaMemset(tally.at, 0, sizeof(Tally)));
    MUST(cudaMemset(&tally.at->first, 0xff, 8));
    count_unlike<<<1024, 256>>>(reinterpret_cast<uint32_t*>(first.at), reinterpret_cast<uint32_t*>(again.at),
                                int64_t(rows) * n, tally.at);
    finish();
    Tally t;
    MUST(cudaMemcpy(&t, tally.at, sizeof t, cudaMemcpyDefault));
    if (!t.differ) continue;
    printf("%-7s UNSTABLE %d x %d x %d: run %d (%d rows) differs in %llu elements, first [%llu][%llu]\n", v.name, m, n,
           k, i, rows, t.differ, t.first / n, t.first % n);
    failed = true;
    return;
  }
  printf("%-7s stable: %d x %d x %d ten times, and for %d rows alone\n", v.name, m, n, k, fewer);
}

void checks(const Variant& v, const Options& o) {
  probe(v);
  // bits: one step of 16 inputs, one block, one step of the ring, one range, many
  for (const int k : {16, 32, 64, 128, 1024, 2048, 8192}) check(v, {256, 256, k});
  const int ms[] = {1, 64, 100, 128, 257, 512}, ns[] = {16, 48, 20, 2048, 18, 130},
            ks[] = {32, 96, 64, 576, 2048, 40, 1000};
  int i = 0;
  for (const int m : ms)
    for (const int n : ns) {
      const int k = ks[i % 7];
      check(v, {m, n, k, i % 2 == 1, i % 4, i % 4 == 3 ? false : i % 3 == 1, i % 5 == 2 ? 3 : i % 5 == 3 ? 4 : 0});
      i++;
    }
  check_stable(v, 512, 2048, 2048, 100);
  if (o.quick) return;
  check_stable(v, 4096, 4096, 4096, 1);
  check(v, {4096, 2048, 2048, true, 1, false});
  check(v, {512, 8192, 8192, false, 2, true});
  check(v, {4096, 8192, 8192});
}

// ---- times ----

void time_shape(const Variant& v, int m, int n, int k, int group, bool bf16_out) {
  const int64_t bytes = (int64_t(m) * k + packed(n, k)) * 2 + int64_t(m) * n * 4;
  const int sets = int(std::clamp<int64_t>(div_up(int64_t(256) << 20, bytes), 2, 8));  // more than L2 holds
  std::vector<Device<uint16_t>> x, w;
  std::vector<Device<float>> out;
  for (int i = 0; i < sets; i++) {
    x.emplace_back(int64_t(m) * k), w.emplace_back(packed(n, k)), out.emplace_back(int64_t(m) * n);
    fill_x<<<1024, 256>>>(x[i].at, m, k, k, i, false);
    pack(w[i].at, n, k, Fill::random, i + 100);
  }
  finish();
  int turn = 0;
  const auto go = [&] {
    const int i = turn++ % sets;
    GemmEpilogue e;
    e.out = out[i].at, e.out_type = bf16_out ? DType::bf16 : DType::f32, e.out_stride = n;
    launch_or_fail(v, x[i].at, k, m, view(w[i].at, n, k), e, group);
  };
  cudaEvent_t from, to;
  MUST(cudaEventCreate(&from));
  MUST(cudaEventCreate(&to));
  const auto measure = [&](int launches) {
    MUST(cudaEventRecord(from));
    for (int i = 0; i < launches; i++) go();
    MUST(cudaEventRecord(to));
    finish();
    float ms;
    MUST(cudaEventElapsedTime(&ms, from, to));
    return ms * 1000 / launches;
  };
  measure(3);
  const int launches = int(std::clamp(2000 / measure(3), 1.0f, 100.0f));  // about 2 ms a sample
  std::vector<float> us;
  for (int i = 0; i < 20; i++) us.push_back(measure(launches));
  std::sort(us.begin(), us.end());
  const double flops = 2.0 * m * n * k, median = (us[9] + us[10]) / 2;
  const int64_t tiles = div_up(m, v.tokens) * div_up(n, v.outputs), waves = div_up(tiles, context.sms);
  printf("%-7s %5d x %5d x %5d group %2d: %9.1f us (%.1f..%.1f), %6.1f TFLOP/s; last wave full: %.0f%% of the time\n",
         v.name, m, n, k, group, median, us.front(), us.back(), flops / median * 1e-6,
         100.0 * tiles / (waves * context.sms));
  printf(
      "JSON {\"variant\":\"%s\",\"kind\":\"time\",\"m\":%d,\"n\":%d,\"k\":%d,\"group\":%d,\"us\":%.2f,\"min\":%.2f,"
      "\"tflops\":%.1f}\n",
      v.name, m, n, k, group, median, us.front(), flops / median * 1e-6);
  fflush(stdout);
  cudaEventDestroy(from), cudaEventDestroy(to);
}

const int kTimed[][3] = {{8192, 8192, 8192}, {2048, 8192, 2048},  {2048, 2048, 8192}, {512, 14336, 4096},
                         {512, 4096, 14336}, {4096, 14336, 4096}, {1024, 6144, 4096}, {256, 4096, 4096}};

int child(const Variant& v, const Options& o) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  MUST(cudaHostAlloc(reinterpret_cast<void**>(&hang_words), 64, cudaHostAllocMapped));
  memset(hang_words, 0, 64);
  cudaDeviceProp p;
  MUST(cudaGetDeviceProperties(&p, 0));
  context.sms = p.multiProcessorCount, context.arch = p.major * 10 + p.minor,
  context.shared_limit = p.sharedMemPerBlockOptin;
  if (context.arch != 90) {
    printf("%s is not sm_90\n", p.name);
    return 2;
  }
  printf("-- %s: %d rows x %d outputs a block, %d bytes of shared memory; %s, %d multiprocessors\n", v.name, v.tokens,
         v.outputs, v.shared, p.name, context.sms);
  if (o.check) checks(v, o);
  if (o.time) {
    context.chained = o.chained;
    for (const auto& s : kTimed) time_shape(v, s[0], s[1], s[2], 0, o.bf16_out);
    for (const int group : {4, 16, 32}) time_shape(v, 8192, 8192, 8192, group, o.bf16_out);
  }
  printf("%-7s %s\n", v.name, failed ? "FAILED" : "done");
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  std::string wanted, json_path, flags;
  const char* as_child = nullptr;
  for (int i = 1; i < argc; i++) {
    const std::string a = argv[i];
    if (a == "--list") {
      for (const Variant& v : kVariants) printf("%s: %d x %d, %d bytes\n", v.name, v.tokens, v.outputs, v.shared);
      return 0;
    }
    if (a == "--check") o.time = false;
    if (a == "--time") o.check = false;
    if (a == "--quick") o.quick = true;
    if (a == "--bf16") o.bf16_out = true;
    if (a == "--chained") o.chained = true;
    if (a == "--variant" && i + 1 < argc) {
      wanted = "," + std::string(argv[++i]) + ",";
    } else if (a == "--json" && i + 1 < argc) {
      json_path = argv[++i];
    } else if (a == "--child" && i + 1 < argc) {
      as_child = argv[++i];
    } else {
      flags += " " + a;
    }
  }
  if (as_child) {
    alarm(120);
    for (const Variant& v : kVariants)
      if (std::string(v.name) == as_child) return child(v, o);
    return 2;
  }
  FILE* json = json_path.empty() ? nullptr : fopen(json_path.c_str(), "w");
  std::vector<std::string> names, lines;
  std::vector<int> codes;
  char self[4096] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return 2;
  for (const Variant& v : kVariants) {
    if (!wanted.empty() && wanted.find("," + std::string(v.name) + ",") == std::string::npos) continue;
    names.push_back(v.name);
    codes.push_back(run_child("'" + std::string(self) + "' --child " + v.name + flags, &lines, json));
  }
  table(names, codes, lines, kTimed);
  if (json) fclose(json);
  return std::any_of(codes.begin(), codes.end(), [](int c) { return c != 0; });
}
