// Records of launches: what an op got and what it made of it on the CPU, for programs that run the same on a device without
// Node (csrc/tools/gpu_tests.cc). EYRIE_RECORD=<folder> makes every CPU backend of the process write them, one file a process.
//
// A file is "EYRIEREC", u32 version, then records. Everything is little-endian, strings are u16 length and bytes.
//   record   u64 bytes that follow, string op, string shapes (a readable line: names, dtypes, sizes, scalars),
//            u32 regions, each region, then each argument of the op's signature in order
//   region   memory that one or several overlapping tensors view: u64 bytes, u32 address modulo 64, u8 written, the bytes before the
//            launch, and when written the bytes after it
//   argument u8 kind:
//     0 scalar   f64
//     1 absent   an optional tensor that was not given
//     2 tensor   u8 dtype, u8 rank, i64 shape[rank], i64 stride[rank] (elements), u32 region, u64 byte offset in it
//     3 weight   u8 dtype, i64 N, i64 K, i32 permute, u8 dtype of the source (u8: pack_weight), u64 bytes, the row-major bytes that it was made from: devices differ in
//                their tiles
//     4 weight that this launch makes: u8 dtype, i64 N, i64 K
#pragma once
#include <memory>

#include "core/backend.h"

namespace eyrie {

constexpr char kRecordMagic[] = "EYRIEREC";
constexpr uint32_t kRecordVersion = 2;
enum class RecordKind : uint8_t { scalar, absent, tensor, weight, made };

// The backend itself, or one that records what it runs when EYRIE_RECORD is set. At most EYRIE_RECORD_LIMIT (60) records of an op are
// written, of varied shapes, none above EYRIE_RECORD_MB (4) MiB.
std::unique_ptr<Backend> recording(std::unique_ptr<Backend> backend);

}  // namespace eyrie
