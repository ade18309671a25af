// gpu-tests: what the ops made on the CPU (core/record.h), again on the GPU, or on its emulation; no Node in it.
//   gpu-tests [--filter TEXT] [--limit N] [--repeat N] [--exact] [--no-bf16] [--device N] [--floors] FILE.rec…
// --limit: of each op the N smallest records of different kinds (for compute-sanitizer, with --exact). --floors prints what the device can do
// at best, as JSON. Exits with 1 when anything differs.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "core/error.h"
#include "cuda/backend.h"
#include "tools/compare.h"
#include "tools/floors.h"
#include "tools/replay.h"

namespace {

using namespace eyrie;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string filter;
  int limit = 0, device = 0;
  bool bf16 = true, floors = false;
  ReplayOptions replay;
  std::vector<std::string> files;
};

struct Tally {
  int records = 0, narrow = 0, failed = 0;
  // The worst error and what was allowed there: of f32 and of bf16 activations.
  double relative[2] = {}, allowed[2] = {1, 1}, seconds = 0;
  bool absent = false;
  std::vector<std::string> problems;
};

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; i++) {
    const std::string word = argv[i];
    const auto value = [&]() -> const char* {
      if (i + 1 >= argc) throw Error("EYRIE_INVALID_ARGUMENT", word + " needs a value");
      return argv[++i];
    };
    if (word == "--filter") o.filter = value();
    else if (word == "--limit") o.limit = std::atoi(value());
    else if (word == "--repeat") o.replay.repeat = std::max(1, std::atoi(value()));
    else if (word == "--device") o.device = std::atoi(value());
    else if (word == "--exact") o.replay.exact = true;
    else if (word == "--no-bf16") o.bf16 = false;
    else if (word == "--floors") o.floors = true;
    else if (word.rfind("--", 0) == 0) throw Error("EYRIE_INVALID_ARGUMENT", "there is no option " + word);
    else o.files.push_back(word);
  }
  return o;
}

size_t bytes_of(const Record& r) {
  size_t n = 0;
  for (const RecordRegion& region : r.regions) n += region.before.size();
  for (const RecordArgument& a : r.arguments) n += a.source.size();
  return n;
}

// A record's op, dtypes and flags without its sizes.
std::string kind_of(const Record& r) {
  std::string kind;
  bool inside = false;
  for (char c : r.shapes) {
    if (c == '[') inside = true;
    if (!inside) kind += c;
    if (c == ']') inside = false;
  }
  return kind;
}

// The `limit` smallest records of each op, a kind at a time.
std::vector<Record> smallest(std::vector<Record> records, int limit) {
  std::stable_sort(records.begin(), records.end(),
                   [](const Record& a, const Record& b) { return bytes_of(a) < bytes_of(b); });
  std::map<std::string, int> of_op, of_kind;
  std::vector<Record> chosen;
  for (int round = 1; round <= 2; round++)
    for (Record& r : records) {
      if (r.op.empty() || of_op[r.op] >= limit || bytes_of(r) == 0) continue;
      if (round == 1 && of_kind[kind_of(r)]++ > 0) continue;
      of_op[r.op]++;
      chosen.push_back(std::move(r));
      r.op.clear();
    }
  return chosen;
}

// Errors after which a CUDA context is of no more use.
bool fatal(const std::string& message) {
  for (const char* code : {"(700)", "(702)", "(710)", "(715)", "(716)", "(717)", "(718)", "(719)"})
    if (message.find(code) != std::string::npos) return true;
  return false;
}

void run_one(Backend& backend, ReplayOptions options, const Record& record, bool narrow, Tally& tally) {
  options.narrow = narrow;
  const auto started = Clock::now();
  Outcome outcome;
  try {
    outcome = Replay(backend, options).run(record);
  } catch (const Error& e) {
    if (strcmp(e.code(), "EYRIE_UNSUPPORTED") == 0) {
      tally.absent = true;
      if (tally.problems.empty()) tally.problems.push_back(e.what());
      return;
    }
    if (fatal(e.what())) {
      std::printf("FAILED %s\n       %s\n       the device cannot go on\n", record.shapes.c_str(), e.what());
      std::fflush(stdout);
      std::_Exit(2);
    }
    outcome.problem = std::string(e.code()) + " " + e.what();
  }
  tally.seconds += std::chrono::duration<double>(Clock::now() - started).count();
  (narrow ? tally.narrow : tally.records)++;
  if (outcome.allowed > 0 && outcome.relative / outcome.allowed > tally.relative[narrow] / tally.allowed[narrow]) {
    tally.relative[narrow] = outcome.relative;
    tally.allowed[narrow] = outcome.allowed;
  }
  if (outcome.problem.empty()) return;
  tally.failed++;
  if (tally.problems.size() < 5) tally.problems.push_back(record.shapes + "\n         " + outcome.problem);
}

int run(const Options& options) {
  const cuda::Probe probe = cuda::probe();
  auto backend = probe.emulated ? cuda::make_emulated("") : cuda::make_backend(options.device);
  if (options.floors) {
    print_floors(options.device);
    if (options.files.empty()) return 0;
  }
  std::vector<Record> records;
  for (const std::string& file : options.files)
    for (Record& r : read_records(file))
      if (r.shapes.find(options.filter) != std::string::npos) records.push_back(std::move(r));
  if (options.limit > 0) records = smallest(std::move(records), options.limit);
  std::printf("%s: %zu records\n", backend->describe().c_str(), records.size());
  std::fflush(stdout);
  int failed = 0, passed = 0, absent = 0;
  for (const Op& op : ops()) {
    Tally tally;
    for (const Record& r : records) {
      if (r.op != op.name) continue;
      run_one(*backend, options.replay, r, false, tally);
      Record narrow;
      if (options.bf16 && !tally.absent && narrowed(r, narrow)) run_one(*backend, options.replay, narrow, true, tally);
      if (tally.absent) break;
    }
    if (tally.absent) {
      absent++;
      std::printf("absent %-15s %s\n", op.name, tally.problems[0].c_str());
      continue;
    }
    const int all = tally.records + tally.narrow;
    if (all == 0) continue;
    std::printf("%s %-15s %4d records", tally.failed ? "FAILED" : "ok    ", op.name, tally.records);
    if (tally.relative[0] > 0) std::printf(", error %.2g of %.2g", tally.relative[0], tally.allowed[0]);
    if (tally.narrow) std::printf(", %d in bf16", tally.narrow);
    if (tally.relative[1] > 0) std::printf(", error %.2g of %.2g", tally.relative[1], tally.allowed[1]);
    std::printf(", %.1f s", tally.seconds);
    if (tally.failed) std::printf(", %d FAILED", tally.failed);
    std::printf("\n");
    for (const std::string& p : tally.problems) std::printf("       %s\n", p.c_str());
    std::fflush(stdout);
    failed += tally.failed;
    passed += all - tally.failed;
  }
  std::printf("gpu-tests: %d passed, %d failed, %d ops absent\n", passed, failed, absent);
  return failed || (passed == 0 && absent == 0) ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const Error& e) {
    std::fprintf(stderr, "gpu-tests: %s %s\n", e.code(), e.what());
    return 3;
  }
}
