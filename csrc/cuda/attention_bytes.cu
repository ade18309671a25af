// Attention of prompts and trees over pages of 8 bits.
#include "cuda/attention_blocks.cuh"

namespace eyrie::cuda::attention {

template bool attend_blocks<e4m3>(const Args&, const PagedAttentionArgs&, Context&);
template bool attend_blocks<int8_t>(const Args&, const PagedAttentionArgs&, Context&);

}  // namespace eyrie::cuda::attention
