#include "cuda/faults.h"

#include <cstring>
#include <string>

#include "core/schema.h"
#include "core/tiles.h"
#include "cuda/kernels.h"

namespace eyrie::cuda {

extern const CudaKernel kKernels[] = {
#define OP(name, signature) name,
#include "ops.def"
#undef OP
};

namespace {

// What an argument's elements are, in the words of core/checks.cc.
struct Meaning {
  const char *op, *argument, *what;
};
const Meaning kMeanings[] = {
    {"embed", "ids", "a token"},
    {"embed", "positions", "a row of pos"},
    {"take_rows", "rows", "a row of x"},
    {"lora_shrink", "adapter", "a slot of a (-1: none)"},
    {"lora_expand", "adapter", "a slot of b (-1: none)"},
    {"rope", "rows", "a row of table"},
    {"fused_qkv", "rows", "a row of rope"},
    {"kv_write", "slots", "a slot (or a negative number)"},
    {"fused_qkv", "slots", "a slot (or a negative number)"},
    {"paged_attention", "block_table", "a page"},
    {"paged_attention", "seq_lens", "a length"},
    {"paged_attention", "q_start", "a row of q"},
    {"paged_attention", "anc", "an ancestor"},
    {"kv_compact", "base", "a position"},
    {"kv_compact", "block_table", "a page"},
    {"kv_compact", "path", "a node"},
    {"kv_compact", "num", "a number of nodes"},
    {"kv_copy_pages", "src", "a page"},
    {"kv_copy_pages", "dst", "a page"},
    {"sample", "counts_row", "a row of counts (-1: none)"},
    {"sample", "bias_ids", "a token"},
    {"sample", "bias_start", "a place in bias_ids"},
    {"tree_prepare", "num_nodes", "a number of nodes"},
    {"tree_prepare", "parents", "a node before it,"},
    {"tree_prepare", "base", "a length whose nodes have pages,"},
    {"tree_prepare", "block_table", "a page"},
    {"tree_accept", "num_nodes", "a number of nodes"},
    {"tree_accept", "parents", "a node before it,"},
};

const char* meaning(const char* op, const std::string& argument) {
  for (const Meaning& m : kMeanings)
    if (strcmp(m.op, op) == 0 && argument == m.argument) return m.what;
  return "a value";
}

}  // namespace

void require_kernel(const Launch& launch) {
  const Op& op = *launch.op;
  if (!kKernels[op.index])
    throw Error("EYRIE_UNSUPPORTED", std::string(op.name) + " has no CUDA kernel yet; use device 'cpu'");
  for (size_t i = 0; i < op.args.size(); i++) {
    const Tensor& t = launch.call.tensor[i];
    if (op.args[i].type != Arg::Type::weight || !t.data || on_devices(t.dtype)) continue;
    throw Error("EYRIE_UNSUPPORTED", std::string(op.name) + ": " + op.args[i].name + " is " + dtype_info(t.dtype).name +
                                         ", which has no CUDA kernel yet; use device 'cpu'");
  }
}

void throw_fault(Fault& fault) {
  if (!fault.set) return;
  const Fault f = fault;
  fault.set = 0;
  const Op& op = ops()[size_t(f.op)];
  const std::string& argument = op.args[size_t(f.argument)].name;
  std::string index = std::to_string(f.columns ? f.index / f.columns : f.index);
  if (f.columns) index += "," + std::to_string(f.index % f.columns);
  throw Error("EYRIE_EXECUTION", std::string(op.name) + ": " + argument + "[" + index + "] is " +
                                     std::to_string(f.value) + ", expected " + meaning(op.name, argument) + " in [" +
                                     std::to_string(f.low) + ", " + std::to_string(f.high) + ")");
}

}  // namespace eyrie::cuda
