// Attention of prompts and trees over pages of 16 bits.
#include "cuda/attention_blocks.cuh"

namespace eyrie::cuda::attention {

template bool attend_blocks<f16>(const Args&, const PagedAttentionArgs&, Context&);
template bool attend_blocks<bf16>(const Args&, const PagedAttentionArgs&, Context&);

}  // namespace eyrie::cuda::attention
