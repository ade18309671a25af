#include "tools/replay.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/quantize.h"
#include "core/tiles.h"
#include "tools/compare.h"

namespace eyrie {
namespace {

constexpr char kGuard = char(0xa5);

Tensor dense(DType dtype, const std::vector<int64_t>& shape, void* data, DeviceKind device) {
  Tensor t;
  t.dtype = dtype;
  t.device = device;
  t.data = data;
  for (int64_t d : shape) t.shape[t.rank++] = d;
  int64_t stride = 1;
  for (int i = t.rank - 1; i >= 0; i--) {
    t.stride[i] = stride;
    stride *= t.shape[i];
  }
  return t;
}

float source_value(DType dtype, const char* row, int64_t k) {
  const DTypeInfo info = dtype_info(dtype);
  const char* block = row + k / info.block * info.block_bytes;
  if (info.block == 1) return to_float(dtype, block);
  const int i = int(k % 32);
  const float d = to_float(DType::f16, block);
  if (dtype == DType::q8_0) return d * float(static_cast<signed char>(block[2 + i]));
  const int head = dtype == DType::q4_0 ? 2 : 4;
  const int byte = static_cast<unsigned char>(block[head + i % 16]);
  const float q = float(i < 16 ? byte & 15 : byte >> 4);
  return dtype == DType::q4_0 ? d * (q - 8) : d * q + to_float(DType::f16, block + 2);
}

// The values of an output of quantize_weight, whose scales and codes are those of core/quantize.h.
std::vector<float> quantized_row(DType dtype, DType type, const char* row, int64_t k) {
  std::vector<float> x(size_t((k + kGroupInputs - 1) / kGroupInputs * kGroupInputs));
  uint32_t top = 0;
  for (int64_t i = 0; i < k; i++) {
    x[size_t(i)] = flushed(to_float(type, row + i * dtype_info(type).block_bytes));
    top = std::max(top, float_to_bits(x[size_t(i)]) & 0x7fffffffu);
  }
  std::vector<float> y(static_cast<size_t>(k));
  const RowScale scale = row_scale(top, dtype == DType::i8 ? 127.0f : 448.0f);
  const int64_t size = dtype == DType::i4_g128 ? kGroupInputs : kBlock;
  for (int64_t i = 0; i < k; i++) {
    float& v = y[size_t(i)];
    const float at = x[size_t(i)];
    if (dtype == DType::i8) {
      v = scale.d * float(code_i8(at, scale.inverse));
    } else if (dtype == DType::f8_e4m3) {
      v = scale.d * e4m3_to_float(code_e4m3(at, scale.inverse));
    } else {
      const uint16_t d = scale_i4(&x[size_t(i / size * size)], int(size));
      v = f16_to_float(d) * float(code_i4(at, inverse_i4(d)) - 8);
    }
  }
  return y;
}

}  // namespace

const Op& op_named(const std::string& name) {
  for (const Op& op : ops())
    if (name == op.name) return op;
  throw Error("EYRIE_FILE", "a record is of the op " + name + ", which does not exist; write the records again");
}

void Replay::launch(const Op& op, const Call& call, std::vector<std::shared_ptr<Storage>> keep) {
  Launch l;
  l.op = &op;
  l.call = call;
  l.keep = std::move(keep);
  bind(op, l.call);
  backend_.prepare(l);
  if (l.check) l.check(l.call, backend_.host_memory());
  backend_.run(l);
}

// The region's bytes between guards, on the device, at the same address modulo 64 as in the record.
Replay::Placed Replay::place(const RecordRegion& region, Placed p) {
  const size_t lead = guard() + region.alignment % 64, total = lead + region.before.size() + guard();
  if (!p.storage) p.storage = backend_.allocate(total);
  p.first = static_cast<char*>(p.storage->data()) + lead;
  std::vector<char> bytes(total, kGuard);
  if (!region.before.empty()) memcpy(bytes.data() + lead, region.before.data(), region.before.size());
  if (total) backend_.copy_in(p.storage->data(), bytes.data(), total);
  return p;
}

std::shared_ptr<Storage> Replay::pack(const RecordArgument& weight) {
  const bool floats = weight.source_type != DType::u8;
  const Op& op = op_named(floats ? "quantize_weight" : "pack_weight");
  auto packed =
      backend_.allocate(size_t(tile_bytes(weight.tensor.dtype, weight.tensor.shape[0], weight.tensor.shape[1])));
  Call call = {};
  // Host memory, as when a model is loaded.
  const auto shape = floats ? std::vector<int64_t>{weight.tensor.shape[0], weight.tensor.shape[1]}
                            : std::vector<int64_t>{int64_t(weight.source.size())};
  call.tensor[0] = dense(weight.source_type, shape, const_cast<char*>(weight.source.data()), DeviceKind::cpu);
  if (weight.source.empty()) call.tensor[0].data = packed->data();
  call.scalar[1] = weight.permute;
  call.tensor[2] = weight.tensor;
  call.tensor[2].data = packed->data();
  call.tensor[2].device = backend_.device();
  launch(op, call, {packed});
  return packed;
}

std::string Replay::check_packed(const Tensor& weight, DType source_type, const std::vector<char>& source,
                                 int permute) {
  const int64_t n = weight.shape[0], k = weight.shape[1];
  if (n == 0 || k == 0) return "";
  const Op& op = op_named("embed");
  auto ids = backend_.allocate(size_t(n) * 4), out = backend_.allocate(size_t(n * k) * 4);
  std::vector<int32_t> rows(static_cast<size_t>(n));
  for (size_t i = 0; i < rows.size(); i++) rows[i] = int32_t(i);
  backend_.copy_in(ids->data(), rows.data(), rows.size() * 4);
  Call call = {};
  call.tensor[0] = weight;
  call.tensor[1] = dense(DType::i32, {n}, ids->data(), backend_.device());
  call.scalar[4] = 1;
  call.tensor[5] = dense(DType::f32, {n, k}, out->data(), backend_.device());
  launch(op, call, {ids, out});
  std::vector<float> got(static_cast<size_t>(n * k));
  backend_.copy_out(got.data(), out->data(), got.size() * 4);
  const DTypeInfo info = dtype_info(source_type == DType::u8 ? weight.dtype : source_type);
  const int64_t row_bytes = k / info.block * info.block_bytes;
  for (int64_t i = 0; i < n; i++) {
    const char* row = source.data() + source_row(i, permute) * row_bytes;
    const std::vector<float> made =
        source_type == DType::u8 ? std::vector<float>() : quantized_row(weight.dtype, source_type, row, k);
    for (int64_t j = 0; j < k; j++) {
      const float want = made.empty() ? source_value(weight.dtype, row, j) : made[size_t(j)],
                  have = got[size_t(i * k + j)];
      // d * q + m may be rounded once or twice.
      const float room = weight.dtype == DType::q4_1 ? 1e-6f * (std::fabs(want) + 1) : 0;
      if (std::fabs(have - want) <= room || (std::isnan(have) && std::isnan(want)) || have == want) continue;
      return "out[" + std::to_string(i) + "," + std::to_string(j) + "] is " + std::to_string(have) +
             " (embed), expected " + std::to_string(want);
    }
  }
  return "";
}

Outcome Replay::run(const Record& record) {
  const Op& op = op_named(record.op);
  if (op.args.size() != record.arguments.size())
    throw Error("EYRIE_FILE", record.op + " has other arguments than its records; write them again");
  Outcome outcome;
  std::vector<Placed> placed(record.regions.size());
  std::vector<std::shared_ptr<Storage>> weights(op.args.size());
  for (size_t i = 0; i < op.args.size(); i++) {
    const RecordArgument& a = record.arguments[i];
    if (a.kind == RecordKind::weight) weights[i] = pack(a);
  }
  std::vector<std::vector<char>> first(record.regions.size() + 1);
  for (int run = 0; run < options_.repeat && outcome.problem.empty(); run++) {
    for (size_t r = 0; r < placed.size(); r++)
      if (run == 0 || record.regions[r].written) placed[r] = place(record.regions[r], placed[r]);
    Call call = {};
    std::vector<std::shared_ptr<Storage>> keep;
    for (size_t i = 0; i < op.args.size(); i++) {
      const RecordArgument& a = record.arguments[i];
      if (a.kind == RecordKind::scalar) call.scalar[i] = a.scalar;
      if (a.kind == RecordKind::scalar || a.kind == RecordKind::absent) continue;
      Tensor& t = call.tensor[i];
      t = a.tensor;
      t.device = backend_.device();
      if (a.kind == RecordKind::tensor) {
        t.data = placed[a.region].first + a.offset;
        // What may lie in host memory lies there every second time.
        if (op.args[i].host && run % 2 == 1 && !record.regions[a.region].before.empty()) {
          t.data = const_cast<char*>(record.regions[a.region].before.data()) + a.offset;
          t.device = DeviceKind::cpu;
        }
      } else {
        if (a.kind == RecordKind::made)
          weights[i] = backend_.allocate(size_t(tile_bytes(t.dtype, t.shape[0], t.shape[1])));
        t.data = weights[i]->data();
        keep.push_back(weights[i]);
      }
    }
    for (const Placed& p : placed) keep.push_back(p.storage);
    launch(op, call, keep);

    const auto same = [&](size_t slot, std::vector<char> got, const std::string& what) {
      if (run == 0) first[slot] = std::move(got);
      else if (first[slot] != got) outcome.problem = what + " has other bits in run " + std::to_string(run + 1);
    };
    for (size_t r = 0; r < placed.size(); r++) {
      const size_t bytes = record.regions[r].before.size();
      std::vector<char> all(placed[r].storage->bytes());
      backend_.copy_out(all.data(), placed[r].storage->data(), all.size());
      const size_t lead = size_t(placed[r].first - static_cast<char*>(placed[r].storage->data()));
      for (size_t k = 0; k < all.size(); k++)
        if ((k < lead || k >= lead + bytes) && all[k] != kGuard)
          outcome.problem = "byte " + std::to_string(int64_t(k) - int64_t(lead)) + " of memory of " +
                            std::to_string(bytes) + " bytes was written";
      std::vector<char> got(all.begin() + int64_t(lead), all.begin() + int64_t(lead + bytes));
      const int64_t stray = stray_write(op, record, r, got);
      if (stray >= 0) outcome.problem = "byte " + std::to_string(stray) + " was written, which belongs to no output";
      for (size_t i = 0; i < op.args.size() && run == 0; i++) {
        const RecordArgument& a = record.arguments[i];
        if (a.kind != RecordKind::tensor || !op.args[i].written || a.region != r) continue;
        const double allowed = tolerance(op, record, i, options_.narrow);
        const Difference d = compare(op, record, i, got, allowed);
        if (outcome.problem.empty()) outcome.problem = d.problem;
        if (allowed > 0 && d.relative >= outcome.relative) {
          outcome.relative = d.relative;
          outcome.allowed = allowed;
        }
      }
      if (record.regions[r].written) same(r, std::move(got), "an output");
    }
    for (size_t i = 0; i < op.args.size(); i++) {
      if (record.arguments[i].kind != RecordKind::made) continue;
      std::vector<char> got(weights[i]->bytes());
      backend_.copy_out(got.data(), weights[i]->data(), got.size());
      same(placed.size(), std::move(got), "the packed weight");
      if (run == 0)
        outcome.problem = check_packed(call.tensor[i], record.arguments[0].tensor.dtype,
                                       record.regions[record.arguments[0].region].before, int(call.scalar[1]));
    }
  }
  return outcome;
}

bool narrowed(const Record& record, Record& out) {
  const Op& op = op_named(record.op);
  std::vector<int> use(record.regions.size(), 0);  // 1: activations, 2: other things
  for (size_t i = 0; i < op.args.size(); i++) {
    const RecordArgument& a = record.arguments[i];
    if (a.kind != RecordKind::tensor) continue;
    const bool activation = op.args[i].type == Arg::Type::activation;
    if (activation && a.tensor.dtype != DType::f32) return false;
    use[a.region] |= activation ? 1 : 2;
  }
  if (std::find(use.begin(), use.end(), 3) != use.end() || std::find(use.begin(), use.end(), 1) == use.end())
    return false;
  out = record;
  out.shapes += " (bf16)";
  const auto halve = [](std::vector<char>& bytes) {
    std::vector<char> half(bytes.size() / 2);
    for (size_t k = 0; k + 1 < half.size(); k += 2) {
      uint32_t u;
      memcpy(&u, bytes.data() + 2 * k, 4);
      const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
      const uint16_t h = nan ? uint16_t(u >> 16 | 0x40) : uint16_t((u + 0x7fffu + (u >> 16 & 1)) >> 16);
      memcpy(half.data() + k, &h, 2);
    }
    bytes = std::move(half);
  };
  for (size_t r = 0; r < use.size(); r++) {
    if (use[r] != 1) continue;
    halve(out.regions[r].before);
    halve(out.regions[r].after);
    out.regions[r].alignment /= 2;
  }
  for (RecordArgument& a : out.arguments) {
    if (a.kind != RecordKind::tensor || use[a.region] != 1) continue;
    a.tensor.dtype = DType::bf16;
    a.offset /= 2;
  }
  return true;
}

}  // namespace eyrie
